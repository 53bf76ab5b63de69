//! The standing guard: one attach, one policy at a time.

use std::{collections::VecDeque, fs, net::IpAddr, os::fd::OwnedFd};

use bailiwick_abi::Settings;
use bailiwick_policy::Name;
use nix::ifaddrs::getifaddrs;

use crate::{
    Events, Flows, KernelError, Rules, Site,
    links::{self, Attachment},
    maps::{Maps, open_events, open_flows, open_names, open_observed},
    object::{self, Loaded},
    places,
    rules::entries,
    sockets::{self, Slices},
    status::{self, Compare, Status},
};

/// The standing guard. Dropping it leaves every pinned link in force.
pub struct Guard {
    site: Site,
    programs: Vec<Loaded>,
    maps: Maps,
    /// Every pinned map, to put its pin back.
    pins: Vec<(&'static str, OwnedFd)>,
    /// The standing links hold an older policy than the maps; they are switched once the maps hold one.
    switch_after_apply: bool,
    rules: Rules,
    cgroups: Vec<Cgroups>,
    /// The cgroups that an agent before this one held, by scope; empty once this one has applied a policy.
    inherited: Vec<(Name, u64)>,
    events_taken: bool,
    slices: Slices,
}

/// The cgroups that a scope has or had. A slice that is stopped leaves sockets behind, in a cgroup without a
/// directory; they stay held.
#[derive(Clone, Default)]
struct Cgroups {
    live: Option<u64>,
    former: VecDeque<u64>,
}

const FORMER_KEPT: usize = 32;

impl Guard {
    /// Loads and verifies every program, attaches and pins those of the site's cgroup root, or updates what is pinned
    /// there already in place; rolls back on any failure. The others come to the held slices with the policy that names
    /// them ([`Guard::apply`], [`Guard::refresh`]).
    ///
    /// A policy that an earlier agent applied goes on being in force.
    ///
    /// # Errors
    /// [`KernelError`] naming the program, the errno and the cure.
    pub fn attach(site: &Site) -> Result<Self, KernelError> {
        site.check()?;
        let programs = object::load(site)?;
        let maps = Maps::open(site)?;
        let pins = object::open_maps(site)?;
        let standing = maps.settings()?.generation;
        let switch_after_apply = standing == 0 && links::any_pinned(site);
        let held = if standing == 0 { Vec::new() } else { maps.scopes(standing)? };
        let inherited = held
            .into_iter()
            .filter_map(|(id, scope)| Some((maps.name(standing, scope.index)?, id)))
            .collect();
        if !switch_after_apply {
            links::install(site, &programs, &links::attachments(site, &Rules::default(), &[])?)?;
            links::update_slices(site, &programs)?;
        }
        Ok(Self {
            site: site.clone(),
            programs,
            maps,
            pins,
            switch_after_apply,
            rules: Rules::default(),
            cgroups: Vec::new(),
            inherited,
            events_taken: false,
            slices: Slices::new(site),
        })
    }

    /// Puts `rules` in force as one generation and returns its number; what was in force stays on any failure.
    ///
    /// # Errors
    /// [`KernelError::Rules`] with every contradiction, or what the kernel refused.
    pub fn apply(&mut self, rules: &Rules) -> Result<u32, KernelError> {
        rules.check()?;
        let before = self.maps.settings()?;
        let generation = before.generation.checked_add(1).unwrap_or(1);
        // What a crash left behind, perhaps under the very number that comes next.
        self.maps.sweep(|number| number == before.generation, before.generation)?;
        let cgroups = self.resolve(rules)?;
        if let Err(error) = self.write(rules, &cgroups, generation) {
            if let Err(also) = self.maps.sweep(|number| number == before.generation, before.generation) {
                tracing::warn!(error = %also, "entries of a policy that failed stay until the next one");
            }
            return Err(error);
        }
        let attachments = links::attachments(&self.site, rules, &live(&cgroups))?;
        if !self.switch_after_apply {
            // Before the switch: a slice that is new is held from the moment on at which its policy is in force.
            links::install(&self.site, &self.programs, &attachments)?;
        }
        self.maps.switch(Settings { generation, epoch: before.next_epoch() })?;
        self.rules = rules.clone();
        self.cgroups = cgroups;
        self.inherited.clear();
        if self.switch_after_apply {
            links::install(&self.site, &self.programs, &attachments)?;
            self.switch_after_apply = false;
        }
        self.prune(&attachments)?;
        self.end_intruders();
        for directory in self.site.other_schemas() {
            links::remove_schema(&directory)?;
        }
        if let Err(error) = self.maps.sweep(|number| number == generation, before.generation) {
            tracing::warn!(%error, "entries of the policy before stay until the next one");
        }
        Ok(generation)
    }

    /// Looks again where the scopes' cgroups are (slices come and go) and which addresses the host has, and tells
    /// the kernel; returns the names whose cgroup changed.
    ///
    /// # Errors
    /// [`KernelError`]
    pub fn refresh(&mut self) -> Result<Vec<Name>, KernelError> {
        let settings = self.maps.settings()?;
        let mut moved = self.maps.set_local(&local_addresses()?)?;
        let now = self.resolve(&self.rules)?;
        let mut changed = Vec::new();
        let policies = self.rules.policies();
        for (index, (scope, cgroups)) in self.rules.scopes.iter().zip(&now).enumerate() {
            if self.cgroups[index].live == cgroups.live {
                continue;
            }
            changed.push(scope.name.clone());
            moved = true;
            if let Some(id) = cgroups.live {
                self.maps.put_scope(
                    settings.generation,
                    id,
                    scope.wire(number(index), number(policies[index])),
                )?;
            }
            for id in self.cgroups[index].former.iter().filter(|id| !cgroups.former.contains(id)) {
                self.maps.drop_scope(settings.generation, *id)?;
            }
        }
        if moved {
            // After the entries: a cached answer from before is void only once the new one can be found.
            self.maps.switch(Settings { epoch: settings.next_epoch(), ..settings })?;
        }
        self.cgroups = now;
        if !changed.is_empty() && !self.switch_after_apply {
            let attachments = links::attachments(&self.site, &self.rules, &live(&self.cgroups))?;
            links::install(&self.site, &self.programs, &attachments)?;
            self.prune(&attachments)?;
        }
        Ok(changed)
    }

    /// What listened on a guarded port before the guard stood, and is not the model's. What cannot be ended is in the
    /// status, and the proxy does not speak to it.
    fn end_intruders(&self) {
        match sockets::end_intruders(&self.slices, &self.rules) {
            Ok(ended) => {
                for (model, socket) in ended {
                    let place = socket.cgroup_id.map_or_else(String::new, |id| self.slices.place(id));
                    tracing::warn!(
                        %model,
                        "ended a socket at {} that was on the model's port and not in its slice, but in {place}",
                        socket.source
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "who else is on the models' ports could not be ended"),
        }
    }

    /// Links at slices that no scope has or had.
    fn prune(&self, attachments: &[Attachment]) -> Result<(), KernelError> {
        links::prune_slices(&self.site, |spec, id| {
            attachments.iter().any(|wanted| wanted.cgroup_id == id && wanted.spec.name == spec.name)
                || self.cgroups.iter().any(|cgroups| cgroups.former.contains(&id))
        })
    }

    /// What the kernel says now, held against the rules that were applied last and the programs that were loaded.
    ///
    /// # Errors
    /// [`KernelError`] when it cannot be read at all; [`Self::repair`] may help then, too.
    pub fn truth(&self) -> Result<Status, KernelError> {
        status::read(&self.site, &self.rules, &Compare::Loaded(&self.programs))
    }

    /// Puts back what somebody took away: the maps' pins, the links, the policy. What stands is not touched in between,
    /// so that nothing opens.
    ///
    /// # Errors
    /// [`KernelError`] naming what could not be put back; what could be is.
    pub fn repair(&mut self) -> Result<(), KernelError> {
        self.site.check()?;
        object::put_back_maps(&self.site, &self.pins)?;
        if !self.switch_after_apply {
            let attachments = links::attachments(&self.site, &self.rules, &live(&self.cgroups))?;
            links::install(&self.site, &self.programs, &attachments)?;
        }
        self.end_intruders();
        if !self.truth()?.guarded {
            self.apply(&self.rules.clone())?;
        }
        Ok(())
    }

    /// The site that it stands on.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The rules that were applied last.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The event stream; call once, inside a tokio runtime.
    ///
    /// # Errors
    /// [`KernelError::EventsTaken`] when called twice.
    pub fn events(&mut self) -> Result<Events, KernelError> {
        if self.events_taken {
            return Err(KernelError::EventsTaken);
        }
        let events = Events::new(
            open_events(&self.site)?,
            open_names(&self.site)?,
            places::Places::new(&self.site.cgroup_root),
        )?;
        self.events_taken = true;
        Ok(events)
    }

    /// What passes, as the programs observe it. Two readers would tell of it twice, or take each other's.
    ///
    /// # Errors
    /// [`KernelError`] when the maps cannot be opened.
    pub fn flows(&self) -> Result<Flows, KernelError> {
        Flows::new(open_observed(&self.site)?, open_flows(&self.site)?, open_names(&self.site)?)
    }

    fn resolve(&self, rules: &Rules) -> Result<Vec<Cgroups>, KernelError> {
        let known = |name: &Name| self.rules.scopes.iter().position(|scope| scope.name == *name);
        let inherited = self.inherited(rules)?;
        rules
            .scopes
            .iter()
            .map(|scope| {
                let mut cgroups = known(&scope.name)
                    .filter(|index| self.rules.scopes[*index].cgroup == scope.cgroup)
                    .map_or_else(Cgroups::default, |index| self.cgroups[index].clone());
                cgroups
                    .former
                    .extend(inherited.iter().filter(|(name, _)| *name == scope.name).map(|(_, id)| *id));
                let live = self.site.cgroup_id(&scope.cgroup)?;
                if cgroups.live != live {
                    cgroups.former.extend(cgroups.live);
                    cgroups.live = live;
                }
                while cgroups.former.len() > FORMER_KEPT {
                    cgroups.former.pop_front();
                }
                Ok(cgroups)
            })
            .collect()
    }

    /// What an agent before this one held and is no directory any more, the oldest first: cgroups are numbered
    /// upwards. A cgroup that is still there is the scope's own, or has become something else's.
    fn inherited(&self, rules: &Rules) -> Result<Vec<(Name, u64)>, KernelError> {
        if self.inherited.is_empty() {
            return Ok(Vec::new());
        }
        let tree = places::walk(&self.site.cgroup_root);
        let mut alive = tree.found;
        if !tree.complete {
            // Too large a tree to see all of it; of the scopes themselves it is known where they are.
            for scope in &rules.scopes {
                alive.extend(self.site.cgroup_id(&scope.cgroup)?.map(|id| (id, scope.cgroup.clone())));
            }
        }
        let mut gone: Vec<_> =
            self.inherited.iter().filter(|(_, id)| !alive.contains_key(id)).cloned().collect();
        gone.sort_by_key(|(_, id)| *id);
        Ok(gone)
    }

    fn write(&mut self, rules: &Rules, cgroups: &[Cgroups], generation: u32) -> Result<(), KernelError> {
        self.maps.set_local(&local_addresses()?)?;
        let policies = rules.policies();
        for (index, scope) in rules.scopes.iter().enumerate() {
            let policy = number(policies[index]);
            self.maps.put_name(generation, number(index), &scope.name)?;
            if policies[index] == index {
                for entry in entries(&scope.egress, &scope.peers, policy) {
                    self.maps.put_destination(generation, entry)?;
                }
            }
            if scope.port() != 0 {
                self.maps.put_port(generation, scope.port(), number(index))?;
            }
            let held = scope.wire(number(index), policy);
            self.maps.put_held(generation, held)?;
            for id in cgroups[index].former.iter().copied().chain(cgroups[index].live) {
                self.maps.put_scope(generation, id, held)?;
            }
        }
        Ok(())
    }
}

/// Detaches and unpins everything: the explicit way out.
///
/// # Errors
/// [`KernelError::File`] naming the pin that could not be removed.
pub fn release(site: &Site) -> Result<(), KernelError> {
    if !fs::exists(&site.pins).map_err(|source| KernelError::file("look at", &site.pins, source))? {
        return Ok(());
    }
    links::remove_all(site)
}

fn live(cgroups: &[Cgroups]) -> Vec<Option<u64>> {
    cgroups.iter().map(|cgroups| cgroups.live).collect()
}

/// The addresses of this network namespace.
fn local_addresses() -> Result<Vec<IpAddr>, KernelError> {
    let interfaces = getifaddrs()
        .map_err(|errno| KernelError::map("collect addresses for", "LOCAL", std::io::Error::from(errno)))?;
    let mut found: Vec<IpAddr> = interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Scopes are counted in `u32`; there are never as many as that.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(bailiwick_abi::NO_SCOPE)
}
