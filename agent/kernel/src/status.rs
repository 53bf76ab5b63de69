//! Kernel truth: link → live cgroup → program → the maps that it reads.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use bailiwick_abi::{Counter, MapShape};

use crate::{
    KernelError, Neighbour, Place, Reason, Rules, Site,
    attached::neighbours,
    links::{Attachment, HookSpec, attachments},
    maps::{Maps, counters, open_names},
    object::{Loaded, Tags, built_in_tags},
    sock_diag::State,
    sockets::{Slices, intruders},
    syscall::{self, LinkInfo, ProgramInfo},
};

/// Kernel truth, read now (link → live cgroup → program), by anyone, agent or no agent.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// Every program is attached where it should be, a policy is in force, and every scope of the rules that has
    /// a cgroup is held in that cgroup.
    pub guarded: bool,
    /// Where the programs should be.
    pub cgroup_root: PathBuf,
    /// The schema of the maps that was read: the one of this program.
    pub schema: u32,
    /// The policy in force.
    pub generation: Option<u32>,
    /// The maps whose pin is gone, where there is a guard.
    pub lost_maps: Vec<&'static str>,
    /// Why the policy in force, or its absence, guards nothing.
    pub policy_problem: Option<String>,
    /// One a program.
    pub hooks: Vec<HookStatus>,
    /// One a scope of the rules.
    pub scopes: Vec<ScopeStatus>,
    /// Who else than its model listens on a guarded port, in words; what keeps it from the model's callers is the proxy
    /// alone.
    pub intruders: Vec<Intruder>,
    /// What does not take the guard down but deserves a look, each a sentence.
    pub warnings: Vec<String>,
    /// Decided about and allowed.
    pub allowed: u64,
    /// reason → denied
    pub denied: BTreeMap<String, u64>,
    /// reason → let pass by shadow mode
    pub would_deny: BTreeMap<String, u64>,
    /// Events that found the ring buffer full.
    pub lost_events: u64,
    /// What the register and the names of destinations miss, because nobody read in time.
    pub lost_observations: u64,
}

/// One program at one cgroup.
#[derive(Clone, Debug, serde::Serialize)]
pub struct HookStatus {
    /// Its name; of one that is attached at a slice with the scope's, `ingress:llama`.
    pub hook: String,
    /// Whether it is attached at the live cgroup, at its own hook, over the maps that are read here.
    pub attached: bool,
    /// As the kernel says it.
    pub link_id: Option<u32>,
    /// As the kernel says it; 0 when the cgroup is gone.
    pub cgroup_id: Option<u64>,
    /// As the kernel says it.
    pub program_id: Option<u32>,
    /// As the kernel says it: a digest of the program's instructions.
    pub program_tag: Option<String>,
    /// The tag of the program that is built into this one, on this kernel; `None` when it could not be found out.
    pub built_in_tag: Option<String>,
    /// What else is attached here, at the same hook.
    pub neighbours: Vec<Neighbour>,
    /// How often it ran; 0 unless `kernel.bpf_stats_enabled` is on.
    pub runs: u64,
    /// How long that took, in nanoseconds.
    pub run_time_ns: u64,
    /// Why it is not attached, in words.
    pub problem: Option<String>,
}

/// One scope.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ScopeStatus {
    /// Its name.
    pub name: String,
    /// Its cgroup.
    pub cgroup: PathBuf,
    /// What the kernel's map holds.
    pub guarded_id: Option<u64>,
    /// What the cgroup tree says now.
    pub live_id: Option<u64>,
}

impl ScopeStatus {
    /// A scope whose cgroup does not exist has nothing to hold yet.
    fn holds(&self) -> bool {
        self.live_id.is_none() || self.live_id == self.guarded_id
    }
}

/// A listener on a guarded port that is not its model's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Intruder {
    /// The model whose port it is.
    pub model: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The cgroup that it was made in.
    pub place: String,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// A hook's name, `scope:<name>`, `port:<number>`, `map:<name>`, `policy` or `kernel`.
    pub place: String,
    /// In words.
    pub text: String,
}

impl Status {
    /// Everything that keeps [`Status::guarded`] from being true.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let hook = |hook: &HookStatus| {
            hook.problem.as_ref().map(|text| Problem { place: hook.hook.clone(), text: text.clone() })
        };
        let mut problems: Vec<Problem> = self.hooks.iter().filter_map(hook).collect();
        if let Some(text) = &self.policy_problem {
            problems.push(Problem { place: "policy".to_owned(), text: text.clone() });
        }
        for scope in self.scopes.iter().filter(|scope| !scope.holds()) {
            let text = format!("the kernel does not hold its cgroup {}", scope.cgroup.display());
            problems.push(Problem { place: format!("scope:{}", scope.name), text });
        }
        for map in &self.lost_maps {
            let text = "its pin is gone: what it holds cannot be read, and the next start begins without it"
                .to_owned();
            problems.push(Problem { place: format!("map:{map}"), text });
        }
        for Intruder { model, address, place } in &self.intruders {
            let text = format!("{place} listens at {address}, which is reserved for {model}");
            problems.push(Problem { place: format!("port:{}", address.port()), text });
        }
        problems
    }
}

/// Reads the truth. `rules` says what ought to be guarded. The first call in a process loads the programs once more,
/// unattached, to learn what tags they have on this kernel.
///
/// # Errors
/// [`KernelError`] when it cannot be read at all.
pub fn status(site: &Site, rules: &Rules) -> Result<Status, KernelError> {
    static TAGS: OnceLock<Tags> = OnceLock::new();
    if TAGS.get().is_none() {
        match built_in_tags(site) {
            // Another thread may have been first, with the same answer.
            Ok(tags) => drop(TAGS.set(tags)),
            Err(error) => tracing::debug!(%error, "the built-in programs cannot be compared"),
        }
    }
    read(site, rules, &Compare::BuiltIn(TAGS.get()))
}

/// As [`status`], but takes any program over the pinned maps for one of ours: for an agent that may be about to replace an
/// earlier version's.
///
/// # Errors
/// As [`status`].
pub fn standing(site: &Site, rules: &Rules) -> Result<Status, KernelError> {
    read(site, rules, &Compare::Nothing)
}

/// What the programs in force are held against.
pub(crate) enum Compare<'a> {
    /// These very programs. Opening another one by its id takes CAP_SYS_ADMIN, which the service is without: one that is
    /// not among these is not ours.
    Loaded(&'a [Loaded]),
    /// The tags of what is built in, where they are known. Takes CAP_SYS_ADMIN.
    BuiltIn(Option<&'a Tags>),
    /// Nothing: any program will do, also one that cannot be opened.
    Nothing,
}

/// As [`status`], held against what the caller has.
pub(crate) fn read(site: &Site, rules: &Rules, compare: &Compare<'_>) -> Result<Status, KernelError> {
    let live =
        rules.scopes.iter().map(|scope| site.cgroup_id(&scope.cgroup)).collect::<Result<Vec<_>, _>>()?;
    let attachments = attachments(site, rules, &live)?;
    let mut lost_maps = Vec::new();
    for shape in bailiwick_abi::MAPS {
        if !pinned(&site.map_pin(shape.name))? {
            lost_maps.push(shape.name);
        }
    }
    let maps = if lost_maps.is_empty() { Some(Maps::open(site)?) } else { None };
    if lost_maps.len() == bailiwick_abi::MAPS.len() {
        // There is no guard at all.
        lost_maps.clear();
    }
    let settings_id = map_id(site, &bailiwick_abi::SETTINGS)?;
    let mut hooks: Vec<HookStatus> =
        attachments.iter().map(|place| hook_status(site, place, settings_id, compare)).collect();
    let mut warnings = Vec::new();
    if matches!(compare, Compare::BuiltIn(None)) {
        warnings.push(
            "the built-in programs could not be loaded, so the attached ones were not compared with them; run as root"
                .to_owned(),
        );
    }
    match neighbours(site, rules, &attachments) {
        Ok(found) => {
            for ((hook, place), neighbours) in hooks.iter_mut().zip(&attachments).zip(found) {
                hook.neighbours = neighbours;
                let overriding = hook.neighbours.iter().filter(|n| n.may_override);
                warnings.extend(overriding.map(|n| overrides(place.spec, n)));
            }
        }
        Err(error) => warnings.push(format!("what else is attached could not be found out: {error}")),
    }
    let generation = match &maps {
        Some(maps) => Some(maps.settings()?.generation).filter(|generation| *generation != 0),
        None => None,
    };
    let scopes = scope_status(site, rules, maps.as_ref(), generation)?;
    let ports = rules.scopes.iter().filter(|scope| scope.port() != 0).all(|scope| {
        let owner =
            maps.as_ref().zip(generation).and_then(|(maps, number)| maps.port_owner(number, scope.port()));
        owner.is_some()
    });
    let policy_problem = match (generation, ports) {
        (None, _) if !lost_maps.is_empty() => None,
        (None, _) => Some("no policy is in force".to_owned()),
        (Some(_), false) => Some("a model's port is not guarded by the policy in force".to_owned()),
        (Some(_), true) => None,
    };
    let slices = Slices::new(site);
    let intruders = match intruders(&slices, rules) {
        Ok(found) => found
            .into_iter()
            .filter(|(_, socket)| socket.state == State::Listen)
            .map(|(model, socket)| Intruder {
                model: model.to_string(),
                address: socket.source,
                place: socket
                    .cgroup_id
                    .map_or_else(|| "a cgroup that is not known".into(), |id| slices.place(id)),
            })
            .collect(),
        Err(error) => {
            warnings.push(format!("who else listens on the models' ports could not be found out: {error}"));
            Vec::new()
        }
    };
    let guarded = policy_problem.is_none()
        && lost_maps.is_empty()
        && intruders.is_empty()
        && hooks.iter().all(|h| h.attached)
        && scopes.iter().all(ScopeStatus::holds);
    let mut status = Status {
        guarded,
        cgroup_root: site.cgroup_root.clone(),
        schema: bailiwick_abi::SCHEMA,
        generation,
        lost_maps,
        policy_problem,
        hooks,
        scopes,
        intruders,
        warnings,
        allowed: 0,
        denied: BTreeMap::new(),
        would_deny: BTreeMap::new(),
        lost_events: 0,
        lost_observations: 0,
    };
    if maps.is_some() {
        status.count(site)?;
    }
    Ok(status)
}

impl Status {
    fn count(&mut self, site: &Site) -> Result<(), KernelError> {
        let counter = counters(site)?;
        for reason in bailiwick_abi::Reason::ALL {
            let name = Reason::from(*reason).as_str().to_owned();
            self.denied.insert(name.clone(), counter(Counter::Denied(*reason)));
            self.would_deny.insert(name, counter(Counter::WouldDeny(*reason)));
        }
        self.allowed = counter(Counter::Allowed);
        self.lost_events = counter(Counter::LostEvents);
        self.lost_observations = counter(Counter::LostObservations);
        Ok(())
    }
}

fn overrides(spec: &HookSpec, neighbour: &Neighbour) -> String {
    let place = match neighbour.place {
        Place::After => "after the guard at the same cgroup",
        Place::Above => "above the guard",
        Place::Before | Place::Below => "before the guard",
    };
    format!(
        "program {} ({}) runs {place} at hook {} and could overrule a refusal there; packets are refused all the same. \
         Find who attached it (bpftool cgroup tree), or restart bailiwick after it",
        neighbour.program_id, neighbour.name, spec.name
    )
}

fn hook_status(
    site: &Site,
    place: &Attachment,
    settings_id: Option<u32>,
    compare: &Compare<'_>,
) -> HookStatus {
    let spec = place.spec;
    let mut status = HookStatus {
        hook: place.label(),
        attached: false,
        link_id: None,
        cgroup_id: None,
        program_id: None,
        program_tag: None,
        built_in_tag: compare.expected(spec),
        neighbours: Vec::new(),
        runs: 0,
        run_time_ns: 0,
        problem: None,
    };
    match syscall::open_pin(&place.pin(site)).and_then(|link| syscall::link_info(link.as_fd())) {
        Ok(link) => {
            status.link_id = Some(link.id);
            status.cgroup_id = Some(link.cgroup_id);
            status.program_id = Some(link.program_id);
            status.problem = link_problem(&link, place);
            status.look_at_program(&link, spec, settings_id, compare);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            status.problem = Some("no link is pinned".to_owned())
        }
        Err(error) => status.problem = Some(format!("its link cannot be read: {error}")),
    }
    status.attached = status.problem.is_none();
    status
}

impl HookStatus {
    fn look_at_program(
        &mut self,
        link: &LinkInfo,
        spec: &HookSpec,
        settings_id: Option<u32>,
        compare: &Compare<'_>,
    ) {
        let problem = match compare.find(link.program_id, spec) {
            Ok(Some(program)) => {
                let problem = program_problem(&program, settings_id, self.built_in_tag.as_deref());
                self.runs = program.runs;
                self.run_time_ns = program.run_time_ns;
                self.program_tag = Some(program.tag);
                problem
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        // A link that is dead names a program, too; that it is dead is the news.
        self.problem = self.problem.take().or(problem);
    }
}

impl Compare<'_> {
    fn expected(&self, spec: &HookSpec) -> Option<String> {
        match self {
            Self::Loaded(programs) => {
                let own = programs.iter().find(|loaded| loaded.spec.name == spec.name)?;
                syscall::program_info(own.program.as_fd()).ok().map(|info| info.tag)
            }
            Self::BuiltIn(tags) => tags.and_then(|tags| tags.get(spec.name)).cloned(),
            Self::Nothing => None,
        }
    }

    /// The program of this id; `Ok(None)` when it need not be known.
    fn find(&self, id: u32, spec: &HookSpec) -> Result<Option<ProgramInfo>, String> {
        let open = || syscall::program_by_id(id).and_then(|program| syscall::program_info(program.as_fd()));
        match self {
            Self::Loaded(programs) => {
                let own = programs.iter().find(|loaded| loaded.spec.name == spec.name);
                let own = own.and_then(|loaded| syscall::program_info(loaded.program.as_fd()).ok());
                let own = own.filter(|info| info.id == id).map(Some);
                own.ok_or_else(|| {
                    format!("the program in force ({id}) is not the one that this agent loaded")
                })
            }
            Self::BuiltIn(_) => {
                open().map(Some).map_err(|error| format!("its program cannot be looked at: {error}"))
            }
            Self::Nothing => Ok(open().ok()),
        }
    }
}

fn link_problem(link: &LinkInfo, place: &Attachment) -> Option<String> {
    let spec = place.spec;
    if link.cgroup_id == 0 {
        return Some("the link is detached, or its cgroup is gone".to_owned());
    }
    if link.cgroup_id != place.cgroup_id {
        return Some(format!("attached to cgroup {}, not to {}", link.cgroup_id, place.cgroup.display()));
    }
    if link.attach_type != spec.attach_type {
        return Some(format!("attached at hook {}, not at {}", link.attach_type, spec.attach_type));
    }
    None
}

fn program_problem(
    program: &ProgramInfo,
    settings_id: Option<u32>,
    built_in: Option<&str>,
) -> Option<String> {
    if !settings_id.is_some_and(|id| program.map_ids.contains(&id)) {
        return Some("the program reads other maps than the pinned ones".to_owned());
    }
    let built_in = built_in.filter(|tag| *tag != program.tag)?;
    let found = &program.tag;
    Some(format!("the program in force (tag {found}) is not the one built in ({built_in})"))
}

fn scope_status(
    site: &Site,
    rules: &Rules,
    maps: Option<&Maps>,
    generation: Option<u32>,
) -> Result<Vec<ScopeStatus>, KernelError> {
    let mut held: Vec<(u64, String)> = Vec::new();
    if let Some((maps, generation)) = maps.zip(generation) {
        let names = open_names(site)?;
        for (id, scope) in maps.scopes(generation)? {
            if let Some(name) = names.get(generation, scope.index) {
                held.push((id, name.as_str().to_owned()));
            }
        }
    }
    rules
        .scopes
        .iter()
        .map(|scope| {
            let name = scope.name.as_str().to_owned();
            let live_id = site.cgroup_id(&scope.cgroup)?;
            let own = || held.iter().filter(|(_, held)| *held == name).map(|(id, _)| *id);
            // Cgroups that are gone stay held for the sockets they left; ids only grow.
            let guarded_id = own().find(|id| Some(*id) == live_id).or_else(|| own().max());
            Ok(ScopeStatus { name, cgroup: scope.cgroup.clone(), guarded_id, live_id })
        })
        .collect()
}

fn map_id(site: &Site, shape: &MapShape) -> Result<Option<u32>, KernelError> {
    let path = site.map_pin(shape.name);
    if !pinned(&path)? {
        return Ok(None);
    }
    let read = || syscall::map_info(syscall::open_pin(&path)?.as_fd());
    read().map(|info| Some(info.id)).map_err(|source| KernelError::file("look at", &path, source))
}

fn pinned(path: &Path) -> Result<bool, KernelError> {
    std::fs::exists(path).map_err(|source| KernelError::file("look at", path, source))
}
