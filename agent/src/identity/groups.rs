//! The groups that an issuer vouches for, wherever it puts them.

use super::error::Fault;
use serde_json::{Map, Value};

/// Reads the claim at `path`: a claim of exactly that name, or else a dotted path into objects
/// (`realm_access.roles`). A missing claim is no groups; an unreadable one is a denial.
///
/// Entra replaces a group list that is too long by a link (`_claim_names`, OpenID Connect Core 5.6.2) or, in the
/// implicit flow, by `hasgroups`. Taking that for "no groups" or for "some groups" would both be wrong.
pub(super) fn read(claims: &Map<String, Value>, path: &str) -> Result<Vec<String>, Fault> {
    let first = path.split('.').next().unwrap_or(path);
    let linked = |name: &str| claims.get("_claim_names").is_some_and(|names| names.get(name).is_some());
    if linked(path) || linked(first) || claims.get("hasgroups").is_some_and(|has| *has != Value::Bool(false))
    {
        return Err(Fault::GroupsOverage);
    }
    match find(claims, path)? {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(many)) => {
            many.iter().map(|one| one.as_str().map(str::to_owned).ok_or(Fault::GroupsUnreadable)).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            Err(Fault::GroupsUnreadable)
        }
    }
}

/// The claim of exactly that name, or at the end of the path.
pub(super) fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Result<Option<&'a Value>, Fault> {
    if let Some(value) = claims.get(path) {
        return Ok(Some(value));
    }
    let mut steps = path.split('.');
    let mut at = steps.next().and_then(|step| claims.get(step));
    for step in steps {
        at = match at {
            None => return Ok(None),
            Some(Value::Object(object)) => object.get(step),
            Some(_) => return Err(Fault::GroupsUnreadable),
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn groups_are_read_or_refused_never_guessed() {
        let rows = [
            ("groups", json!({"groups": ["a", "b"]}), Ok(vec!["a", "b"]), "a list of strings"),
            (
                "groups",
                json!({"groups": "a"}),
                Ok(vec!["a"]),
                "one string is one group, not several by commas",
            ),
            ("groups", json!({"groups": "a,b"}), Ok(vec!["a,b"]), "nothing is split"),
            ("groups", json!({"groups": []}), Ok(vec![]), "an empty list"),
            ("groups", json!({}), Ok(vec![]), "a missing claim is no groups"),
            ("realm_access.roles", json!({"realm_access": {"roles": ["r"]}}), Ok(vec!["r"]), "a dotted path"),
            ("realm_access.roles", json!({"realm_access": {}}), Ok(vec![]), "a path that ends early"),
            ("realm_access.roles", json!({}), Ok(vec![]), "a path that does not begin"),
            (
                "https://example.eu/groups",
                json!({"https://example.eu/groups": ["g"]}),
                Ok(vec!["g"]),
                "a name with dots",
            ),
            (
                "realm_access.roles",
                json!({"realm_access": "r"}),
                Err(Fault::GroupsUnreadable),
                "a path through a string",
            ),
            (
                "groups",
                json!({"groups": ["a", 1]}),
                Err(Fault::GroupsUnreadable),
                "one unreadable group spoils the list",
            ),
            ("groups", json!({"groups": {"a": true}}), Err(Fault::GroupsUnreadable), "an object"),
            ("groups", json!({"groups": null}), Err(Fault::GroupsUnreadable), "null is not a list"),
            (
                "groups",
                json!({"_claim_names": {"groups": "src1"}}),
                Err(Fault::GroupsOverage),
                "Entra beyond 200 groups",
            ),
            (
                "groups",
                json!({"groups": ["a"], "_claim_names": {"groups": "src1"}}),
                Err(Fault::GroupsOverage),
                "a part is not the whole",
            ),
            ("groups", json!({"hasgroups": true}), Err(Fault::GroupsOverage), "Entra in the implicit flow"),
            (
                "roles",
                json!({"roles": ["r"], "_claim_names": {"groups": "src1"}}),
                Ok(vec!["r"]),
                "another claim was left out",
            ),
        ];
        for (path, claims, expected, why) in rows {
            let expected = expected.map(|groups| groups.into_iter().map(str::to_owned).collect());
            assert_eq!(read(claims.as_object().unwrap(), path), expected, "{why}");
        }
    }
}
