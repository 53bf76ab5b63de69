//! What a new file would change.

use super::{Answer, DiffArgs, Refusal, settings};
use bailiwick_kernel::Scope;
use bailiwick_policy::{Change, Claim, Dataset, Place, RegionTable, difference};
use bailiwick_regions::Store;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// So many lines of each list are shown to people.
const SHOWN: usize = 20;

/// For whom a verdict would be another.
struct Flip<'a> {
    scope: &'a Scope,
    /// Networks that it may reach now and could not then.
    lost: Vec<IpNet>,
    /// Networks that it could reach then.
    gained: Vec<IpNet>,
}

pub(super) fn run(args: &DiffArgs) -> Result<Answer, Refusal> {
    let settings = settings(&args.config)?;
    let store = Store::new(&settings.datasets.directory);
    let given = &args.given;
    let new = store.prepare(&given.file, given.kind, given.name.clone())?;
    let present: Vec<Dataset> = match settings.datasets.kept.is_empty() {
        // The config has no countries, and read none.
        true => store.load().map_err(all)?.into_iter().map(|kept| kept.dataset).collect(),
        false => settings.regions.datasets().to_vec(),
    };
    let same = |dataset: &&Dataset| dataset.info().name == new.dataset.info().name;
    let before = present.iter().find(same);
    let changes = before.map(|before| before.changes(&new.dataset));
    let mut after: Vec<Dataset> = present.iter().filter(|dataset| !same(dataset)).cloned().collect();
    after.push(new.dataset.clone());
    let table = RegionTable::with_datasets(settings.regions.regions().to_vec(), after.into());
    let flips: Vec<Flip<'_>> = settings.kernel.scopes.iter().map(|scope| Flip::of(scope, &table)).collect();
    let flipped = flips.iter().any(Flip::is_one);

    let described = |dataset: &Dataset| format!("{} networks of {}", dataset.networks(), dataset.info().date);
    let mut text = format!(
        "\"{}\": {} -> {}\n",
        new.metadata.name,
        before.map_or_else(|| "nothing".to_owned(), described),
        described(&new.dataset)
    );
    if let Some(changes) = &changes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {} networks are put elsewhere", changes.len());
        listed(&mut text, changes.iter().map(change_words));
    }
    for flip in flips.iter().filter(|flip| flip.is_one()) {
        let (lost, gained) = (flip.lost.len(), flip.gained.len());
        let _ = writeln!(text, "  {}: {lost} networks would be denied, {gained} allowed", flip.scope.name);
        let lost = flip.lost.iter().map(|network| format!("denied   {network}"));
        listed(&mut text, lost.chain(flip.gained.iter().map(|network| format!("allowed  {network}"))));
    }
    if !flipped {
        text.push_str("  no verdict would be another\n");
    }
    let json = json!({
        "name": new.metadata.name,
        "before": before.map(Dataset::info),
        "after": new.metadata,
        "changes": changes,
        "verdicts": flips.iter().map(Flip::json).collect::<Vec<_>>(),
    });
    Ok(Answer { code: u8::from(flipped), text, json })
}

impl<'a> Flip<'a> {
    fn of(scope: &'a Scope, table: &RegionTable) -> Self {
        let (now, then) = (&scope.egress.networks, table.networks_of(&scope.egress.regions));
        Self { scope, lost: difference(now, &then), gained: difference(&then, now) }
    }

    fn is_one(&self) -> bool {
        !self.lost.is_empty() || !self.gained.is_empty()
    }

    fn json(&self) -> Value {
        json!({"name": self.scope.name, "denied": self.lost, "allowed": self.gained})
    }
}

fn change_words(change: &Change) -> String {
    let words = |claim: &Option<Claim>| match claim {
        None => "nothing".to_owned(),
        Some(Claim { place: Place::Country(country), label }) if label.as_ref() != country.as_str() => {
            format!("{label} ({country})")
        }
        Some(Claim { label, .. }) if label.is_empty() => "no region".to_owned(),
        Some(Claim { label, .. }) => label.to_string(),
    };
    format!("{}: {} -> {}", change.network, words(&change.before), words(&change.after))
}

fn listed(text: &mut String, lines: impl Iterator<Item = String>) {
    let mut rest = 0_usize;
    for (index, line) in lines.enumerate() {
        if index < SHOWN {
            let _ = writeln!(text, "    {line}");
        } else {
            rest += 1;
        }
    }
    if rest > 0 {
        let _ = writeln!(text, "    and {rest} more: --json has them all");
    }
}

fn all(errors: Vec<bailiwick_regions::StoreError>) -> Refusal {
    Refusal(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
