//! The pinned maps, typed.

use std::net::IpAddr;

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, RingBuf, lpm_trie::Key},
};
use bailiwick_abi as abi;
use bailiwick_abi::{
    Address, Counter, DestinationKey, HeldScope, NAME_LEN, NameKey, PortOwner, ScopeKey, Settings,
};
use bailiwick_policy::Name;

use crate::{
    KernelError, Site,
    rules::{Entry, address},
};

/// A type of the ABI, as the loader's maps want it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Wire<T>(pub(crate) T);

macro_rules! plain {
    ($($shared:ty),+) => {
        $(
            // SAFETY: `repr(C)` with integers only and explicit padding, as the ABI crate asserts: any bytes are
            // valid, and no byte is uninitialized.
            unsafe impl Pod for Wire<$shared> {}
        )+
    };
}
plain!(
    Settings,
    ScopeKey,
    abi::Scope,
    HeldScope,
    PortOwner,
    DestinationKey,
    abi::Destination,
    abi::Flow,
    NameKey,
    Address,
    [u8; NAME_LEN]
);

type Table<K, V> = HashMap<MapData, K, V>;

/// The policy maps.
pub(crate) struct Maps {
    settings: Array<MapData, Wire<Settings>>,
    scopes: Table<Wire<ScopeKey>, Wire<abi::Scope>>,
    held: Array<MapData, Wire<HeldScope>>,
    ports: Array<MapData, Wire<PortOwner>>,
    destinations: LpmTrie<MapData, Wire<DestinationKey>, Wire<abi::Destination>>,
    local: Table<Wire<Address>, u32>,
    names: Table<Wire<NameKey>, Wire<[u8; NAME_LEN]>>,
}

fn open(site: &Site, shape: &abi::MapShape) -> Result<Map, KernelError> {
    MapData::from_pin(site.map_pin(shape.name))
        .and_then(Map::from_map_data)
        .map_err(|error| KernelError::map("open", shape.name, error))
}

/// The names of the scopes.
pub(crate) fn open_names(site: &Site) -> Result<Names, KernelError> {
    Ok(Names(typed(site, &abi::NAMES)?))
}

pub(crate) fn open_events(site: &Site) -> Result<RingBuf<MapData>, KernelError> {
    typed(site, &abi::EVENTS)
}

/// The ring of what is observed.
pub(crate) fn open_observed(site: &Site) -> Result<RingBuf<MapData>, KernelError> {
    typed(site, &abi::OBSERVED)
}

/// Where flows are counted.
pub(crate) fn open_flows(site: &Site) -> Result<PerCpuArray<MapData, Wire<abi::Flow>>, KernelError> {
    typed(site, &abi::FLOWS)
}

/// Sums of a counter over the CPUs.
pub(crate) fn counters(site: &Site) -> Result<impl Fn(Counter) -> u64 + use<>, KernelError> {
    let map: PerCpuArray<MapData, u64> = typed(site, &abi::COUNTERS)?;
    Ok(move |counter: Counter| map.get(&counter.index(), 0).map_or(0, |values| values.iter().sum()))
}

fn typed<T: TryFrom<Map, Error = MapError>>(site: &Site, shape: &abi::MapShape) -> Result<T, KernelError> {
    T::try_from(open(site, shape)?).map_err(|error| KernelError::map("open", shape.name, error))
}

/// The map of names.
pub(crate) struct Names(Table<Wire<NameKey>, Wire<[u8; NAME_LEN]>>);

impl Names {
    /// The name of a scope of a generation, if the map still has it.
    pub(crate) fn get(&self, generation: u32, index: u32) -> Option<Name> {
        name_in(&self.0, generation, index)
    }
}

fn name_in(names: &Table<Wire<NameKey>, Wire<[u8; NAME_LEN]>>, generation: u32, index: u32) -> Option<Name> {
    let Wire(bytes) = names.get(&Wire(NameKey { generation, index }), 0).ok()?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(NAME_LEN);
    Name::new(std::str::from_utf8(&bytes[..end]).ok()?).ok()
}

impl Maps {
    pub(crate) fn open(site: &Site) -> Result<Self, KernelError> {
        Ok(Self {
            settings: typed(site, &abi::SETTINGS)?,
            scopes: typed(site, &abi::SCOPES)?,
            held: typed(site, &abi::HELD)?,
            ports: typed(site, &abi::PORTS)?,
            destinations: typed(site, &abi::DESTINATIONS)?,
            local: typed(site, &abi::LOCAL)?,
            names: typed(site, &abi::NAMES)?,
        })
    }

    pub(crate) fn settings(&self) -> Result<Settings, KernelError> {
        let Wire(settings) = self.settings.get(&0, 0).map_err(|e| KernelError::map("read", "SETTINGS", e))?;
        Ok(settings)
    }

    /// The one write that switches.
    pub(crate) fn switch(&mut self, settings: Settings) -> Result<(), KernelError> {
        self.settings.set(0, Wire(settings), 0).map_err(|e| KernelError::map("write", "SETTINGS", e))
    }

    pub(crate) fn put_scope(
        &mut self,
        generation: u32,
        cgroup_id: u64,
        scope: abi::Scope,
    ) -> Result<(), KernelError> {
        let key = ScopeKey { generation, padding: 0, cgroup_id };
        self.scopes.insert(Wire(key), Wire(scope), 0).map_err(|e| KernelError::map("write", "SCOPES", e))
    }

    /// The scope itself, for the cgroups that are known to be in it.
    pub(crate) fn put_held(&mut self, generation: u32, scope: abi::Scope) -> Result<(), KernelError> {
        let slot = HeldScope::slot(generation, scope.index);
        self.held
            .set(slot, Wire(HeldScope { generation, scope }), 0)
            .map_err(|e| KernelError::map("write", "HELD", e))
    }

    /// A cgroup that is gone may be missing already.
    pub(crate) fn drop_scope(&mut self, generation: u32, cgroup_id: u64) -> Result<(), KernelError> {
        gone(self.scopes.remove(&Wire(ScopeKey { generation, padding: 0, cgroup_id })), "SCOPES")
    }

    pub(crate) fn put_port(&mut self, generation: u32, port: u16, index: u32) -> Result<(), KernelError> {
        let owner = PortOwner { generation, index };
        self.ports
            .set(PortOwner::slot(generation, port), Wire(owner), 0)
            .map_err(|e| KernelError::map("write", "PORTS", e))
    }

    pub(crate) fn put_name(&mut self, generation: u32, index: u32, name: &Name) -> Result<(), KernelError> {
        let mut bytes = [0; NAME_LEN];
        let text = name.as_str().as_bytes();
        let length = text.len().min(NAME_LEN);
        bytes[..length].copy_from_slice(&text[..length]);
        let key = NameKey { generation, index };
        self.names.insert(Wire(key), Wire(bytes), 0).map_err(|e| KernelError::map("write", "NAMES", e))
    }

    /// The name of a scope of a generation, if the map still has it.
    pub(crate) fn name(&self, generation: u32, index: u32) -> Option<Name> {
        name_in(&self.names, generation, index)
    }

    pub(crate) fn put_destination(&mut self, generation: u32, entry: Entry) -> Result<(), KernelError> {
        let (bits, mut key, destination) = entry;
        key.generation = generation.to_be();
        self.destinations
            .insert(&Key::new(bits, Wire(key)), Wire(destination), 0)
            .map_err(|e| KernelError::map("write", "DESTINATIONS", e))
    }

    /// Makes LOCAL hold exactly these addresses; says whether that changed anything.
    pub(crate) fn set_local(&mut self, addresses: &[IpAddr]) -> Result<bool, KernelError> {
        let wanted: Vec<Address> = addresses.iter().copied().map(address).collect();
        let mut present = Vec::new();
        for key in self.local.keys() {
            let Wire(key) = key.map_err(|e| KernelError::map("read", "LOCAL", e))?;
            present.push(key);
        }
        let mut changed = false;
        for address in wanted.iter().filter(|address| !present.contains(address)) {
            changed = true;
            self.local.insert(Wire(*address), 1, 0).map_err(|e| KernelError::map("write", "LOCAL", e))?;
        }
        for address in present.iter().filter(|address| !wanted.contains(address)) {
            changed = true;
            gone(self.local.remove(&Wire(*address)), "LOCAL")?;
        }
        Ok(changed)
    }

    /// Every cgroup that the policy in force holds, with its scope.
    pub(crate) fn scopes(&self, generation: u32) -> Result<Vec<(u64, abi::Scope)>, KernelError> {
        let mut found = Vec::new();
        for item in self.scopes.iter() {
            let (Wire(key), Wire(scope)) = item.map_err(|e| KernelError::map("read", "SCOPES", e))?;
            if key.generation == generation {
                found.push((key.cgroup_id, scope));
            }
        }
        Ok(found)
    }

    /// The index of the model that a port is reserved for.
    pub(crate) fn port_owner(&self, generation: u32, port: u16) -> Option<u32> {
        let Wire(owner) = self.ports.get(&PortOwner::slot(generation, port), 0).ok()?;
        (owner.generation == generation).then_some(owner.index)
    }

    /// Deletes the entries of every generation that `keep` does not want, except for those of HELD and PORTS, which are
    /// only ever written over. Names of `named` stay, too, for events on their way.
    pub(crate) fn sweep(&mut self, keep: impl Fn(u32) -> bool, named: u32) -> Result<(), KernelError> {
        let stale = self.scopes.keys().filter(|key| matches!(key, Ok(Wire(key)) if !keep(key.generation)));
        for key in stale.collect::<Result<Vec<_>, _>>().map_err(|e| KernelError::map("read", "SCOPES", e))? {
            gone(self.scopes.remove(&key), "SCOPES")?;
        }
        let stale = self
            .names
            .keys()
            .filter(|key| matches!(key, Ok(Wire(key)) if !keep(key.generation) && key.generation != named));
        for key in stale.collect::<Result<Vec<_>, _>>().map_err(|e| KernelError::map("read", "NAMES", e))? {
            gone(self.names.remove(&key), "NAMES")?;
        }
        let stale = self
            .destinations
            .keys()
            .filter(|key| matches!(key, Ok(key) if !keep(u32::from_be(key.data().0.generation))));
        for key in
            stale.collect::<Result<Vec<_>, _>>().map_err(|e| KernelError::map("read", "DESTINATIONS", e))?
        {
            gone(self.destinations.remove(&key), "DESTINATIONS")?;
        }
        Ok(())
    }
}

/// What is to be deleted may be gone already.
fn gone(outcome: Result<(), MapError>, map: &'static str) -> Result<(), KernelError> {
    match outcome {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(KernelError::map("delete from", map, error)),
    }
}
