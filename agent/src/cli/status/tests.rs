use super::*;
use bailiwick_kernel::{HookStatus, Rules, ScopeStatus};
use std::collections::BTreeMap;

fn hook(name: &str, problem: Option<&str>) -> HookStatus {
    HookStatus {
        hook: name.to_owned(),
        attached: problem.is_none(),
        link_id: problem.is_none().then_some(1569),
        cgroup_id: None,
        program_id: problem.is_none().then_some(3180),
        program_tag: problem.is_none().then(|| "34410ee79a545be5".to_owned()),
        built_in_tag: None,
        neighbours: Vec::new(),
        runs: 0,
        run_time_ns: 0,
        problem: problem.map(str::to_owned),
    }
}

fn truth(guarded: bool, generation: Option<u32>, hooks: Vec<HookStatus>, guarded_id: Option<u64>) -> Status {
    let scope = ScopeStatus {
        name: "llama".to_owned(),
        cgroup: "bailiwick.slice/bailiwick-llama.slice".into(),
        guarded_id,
        live_id: Some(7),
    };
    Status {
        guarded,
        cgroup_root: "/nowhere".into(),
        schema: 1,
        generation,
        lost_maps: Vec::new(),
        policy_problem: None,
        hooks,
        scopes: vec![scope],
        intruders: Vec::new(),
        warnings: Vec::new(),
        allowed: 0,
        denied: BTreeMap::from([("not-proxy".to_owned(), 3), ("malformed".to_owned(), 0)]),
        would_deny: BTreeMap::new(),
        lost_events: 0,
        lost_observations: 0,
    }
}

#[test]
fn whatever_is_not_guarded_is_said_with_its_cure() {
    let gone = Some("no link is pinned");
    let rows = [
        (
            truth(false, None, vec![hook("ingress", gone), hook("egress", gone)], None),
            "no guard stands",
            "systemctl start bailiwick",
        ),
        (
            truth(false, Some(3), vec![hook("ingress", gone), hook("egress", None)], Some(7)),
            "NOT GUARDED: ingress: no link is pinned",
            "systemctl restart bailiwick",
        ),
        (
            truth(false, None, vec![hook("ingress", None)], None),
            "no policy in force",
            "systemctl restart bailiwick",
        ),
        (
            truth(false, Some(3), vec![hook("ingress", None)], Some(6)),
            "NOT GUARDED: llama: the kernel does not know",
            "systemctl status bailiwick",
        ),
        (
            truth(false, Some(3), vec![hook("ingress", None)], Some(7)),
            "the port of every model",
            "systemctl restart bailiwick",
        ),
    ];
    for (truth, what, cure) in rows {
        let text = page(&truth, &problems(&truth), &notes(&truth, &Rules::default()));
        let unfolded = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.starts_with("NOT GUARDED: "), "{text}");
        assert!(unfolded.contains(what) && unfolded.contains(cure), "{what}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }
}

#[test]
fn what_is_guarded_has_no_problem_and_shows_only_what_happened() {
    let truth = truth(true, Some(3), vec![hook("ingress", None)], Some(7));
    assert_eq!(problems(&truth), []);
    let text = page(&truth, &[], &[]);
    assert!(text.starts_with("guarded: policy generation 3") && !text.contains("NOT GUARDED"), "{text}");
    assert!(text.contains("not-proxy") && !text.contains("malformed"), "{text}");
}
