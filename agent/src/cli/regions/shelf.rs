//! What is kept: import, list, status.

use super::{Answer, ImportArgs, Place, Refusal};
use crate::cli::text::columns;
use crate::config::{self, HostFacts};
use bailiwick_policy::CountryGroup;
use bailiwick_regions::{Metadata, today};
use serde_json::json;
use std::fmt::Write as _;

pub(super) fn import(args: &ImportArgs) -> Result<Answer, Refusal> {
    let (store, _) = args.place.store()?;
    let given = &args.given;
    let prepared = store.prepare(&given.file, given.kind, given.name.clone())?;
    let imported = store.commit(prepared, args.force)?;
    let now = &imported.metadata;
    let mut text = format!(
        "imported \"{}\" ({}): {} networks, of {}, sha256 {}\n",
        now.name,
        now.kind.as_str(),
        now.networks,
        now.date,
        now.sha256
    );
    // Writing to a String cannot fail.
    if let Some(before) = &imported.replaced {
        let _ = writeln!(text, "  in place of {} networks of {}", before.networks, before.date);
    }
    let _ = writeln!(text, "  takes effect with: systemctl reload bailiwick");
    Ok(Answer { code: 0, text, json: json!(imported) })
}

pub(super) fn list(place: &Place) -> Result<Answer, Refusal> {
    let (store, _) = place.store()?;
    let kept = store.list()?;
    let mut text = format!("datasets in {}\n", store.directory().display());
    if kept.is_empty() {
        text.push_str("  none; bailiwick regions import FILE\n");
    }
    let rows = kept.iter().map(|dataset| {
        vec![
            format!("  {}", dataset.name),
            dataset.kind.as_str().to_owned(),
            dataset.date.clone(),
            format!("{} networks", dataset.networks),
            dataset.source.clone(),
        ]
    });
    text.push_str(&columns(&rows.collect::<Vec<_>>()));
    // The datasets can be told without a config, the regions cannot.
    let settings = config::load(&place.config.config, &HostFacts::for_inspection()).ok();
    let regions = settings.as_ref().map(|settings| settings.regions.regions()).unwrap_or_default();
    if settings.is_some() {
        text.push_str("regions\n");
        let rows = regions.iter().map(|region| {
            vec![
                format!("  {}", region.name),
                format!("{} countries", region.countries.len()),
                format!("{} pinned networks", region.networks.len()),
            ]
        });
        text.push_str(&columns(&rows.collect::<Vec<_>>()));
    }
    text.push_str("groups of countries\n");
    for group in CountryGroup::ALL {
        let codes: Vec<String> = group.countries().iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "  {} as of {}: {}", group.as_str(), group.as_of(), codes.join(" "));
        for (code, condition) in group.conditional() {
            let _ = writeln!(text, "    without {code}: {condition}");
        }
    }
    let groups = CountryGroup::ALL.map(|group| {
        json!({
            "name": group.as_str(), "as_of": group.as_of(), "countries": group.countries(),
            "conditional": group.conditional().iter().map(|(code, condition)| json!({"country": code, "condition": condition})).collect::<Vec<_>>(),
        })
    });
    let json =
        json!({"directory": store.directory(), "datasets": kept, "regions": regions, "groups": groups});
    Ok(Answer { code: 0, text, json })
}

pub(super) fn status(place: &Place) -> Result<Answer, Refusal> {
    let (store, max_age) = place.store()?;
    let kept = match store.load() {
        Ok(kept) => kept,
        Err(errors) => {
            return Err(Refusal(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
        }
    };
    let (kept, today) = (kept.into_iter().map(|kept| kept.metadata).collect::<Vec<_>>(), today());
    let stale = |dataset: &Metadata| dataset.age(today) > max_age;
    let fresh = !kept.is_empty() && !kept.iter().any(stale);
    let mut text = match kept.as_slice() {
        [] => format!(
            "NO DATASET in {}\n  import one: bailiwick regions import FILE\n",
            store.directory().display()
        ),
        _ if fresh => format!("fresh: no dataset is older than {max_age} days\n"),
        _ => format!("STALE: a dataset is older than {max_age} days\n"),
    };
    let rows = kept.iter().map(|dataset| {
        vec![
            format!("  {}", dataset.name),
            dataset.date.clone(),
            format!("{} days", dataset.age(today)),
            if stale(dataset) { "STALE" } else { "fresh" }.to_owned(),
            format!("{} networks", dataset.networks),
        ]
    });
    text.push_str(&columns(&rows.collect::<Vec<_>>()));
    if kept.iter().any(stale) {
        text.push_str("  fetch anew, then: bailiwick regions import FILE && systemctl reload bailiwick\n");
    }
    let datasets: Vec<_> = kept
        .iter()
        .map(|dataset| {
            let mut value = json!(dataset);
            value["age_days"] = dataset.age(today).into();
            value["stale"] = stale(dataset).into();
            value
        })
        .collect();
    let json = json!({"fresh": fresh, "max_age_days": max_age, "directory": store.directory(), "datasets": datasets});
    Ok(Answer { code: u8::from(!fresh), text, json })
}
