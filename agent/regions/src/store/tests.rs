use super::*;
use crate::format::tests::{AWS, CLOUDFLARE, table};
use std::collections::BTreeMap;
use time::macros::date;

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let visible = entries.filter(|path| path.file_name().unwrap() != ".lock");
    visible
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect()
}

fn file(directory: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn import(store: &Store, path: &Path) -> Result<Imported, StoreError> {
    store.commit(store.prepare(path, None, None)?, false)
}

#[test]
fn what_is_imported_is_kept_with_its_provenance() {
    let (files, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::new(kept.path().join("datasets"));
    assert_eq!(store.list().unwrap(), [], "no directory, no dataset");
    let imported = import(&store, &file(files.path(), "ip-ranges.json", AWS)).unwrap();
    assert!(imported.replaced.is_none());
    let metadata = &imported.metadata;
    assert_eq!((metadata.name.as_str(), metadata.kind, metadata.networks), ("aws", Kind::Aws, 7));
    assert_eq!((metadata.source.as_str(), metadata.date.as_str()), ("ip-ranges.json", "2026-06-01"));
    assert_eq!((metadata.dated_by, metadata.bytes), (DatedBy::Contents, AWS.len() as u64));
    assert_eq!(metadata.age(date!(2026 - 06 - 11)), 10);
    import(&store, &file(files.path(), "countries.mmdb", table(6, &[("192.0.2.0/24", "DE")]))).unwrap();
    import(&store, &file(files.path(), "ips-20260602.txt", CLOUDFLARE)).unwrap();
    let loaded = store.load().unwrap();
    let names: Vec<_> =
        loaded.iter().map(|kept| (kept.metadata.name.as_str(), kept.metadata.dated_by)).collect();
    assert_eq!(
        names,
        [("aws", DatedBy::Contents), ("cloudflare", DatedBy::FileName), ("country", DatedBy::Contents)]
    );
    assert_eq!(loaded[1].metadata.date, "2026-06-02");
    let evidence = loaded[0].dataset.at("203.0.113.1".parse().unwrap()).unwrap();
    assert_eq!(evidence.dataset.sha256, sha256(AWS.as_bytes()), "the hash of the published file");
}

#[test]
fn a_new_file_takes_the_place_of_the_old_one_and_nothing_is_left_over() {
    let (files, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::new(kept.path());
    import(&store, &file(files.path(), "a.json", AWS)).unwrap();
    // What a crash leaves: a file that was being written, and one whose description never came.
    file(kept.path(), ".new", "half");
    file(kept.path(), &format!("gcp-{}.data", "0".repeat(64)), "orphan");
    assert_eq!(store.load().unwrap().len(), 1, "left-overs are not read");
    let newer = AWS.replace("2026-06-01-00", "2026-06-03-00");
    let imported = import(&store, &file(files.path(), "a.json", &newer)).unwrap();
    assert_eq!(imported.replaced.unwrap().date, "2026-06-01");
    let names: Vec<String> = contents(kept.path()).into_keys().collect();
    assert_eq!(names, [data_name(&imported.metadata), "aws.json".to_owned()]);
}

#[test]
fn a_file_that_is_refused_changes_nothing() {
    let (files, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::new(kept.path());
    import(&store, &file(files.path(), "good.json", AWS)).unwrap();
    import(&store, &file(files.path(), "good.mmdb", table(6, &[("192.0.2.0/24", "DE")]))).unwrap();
    let before = contents(kept.path());
    let one = r#"{"syncToken":"9","createDate":"2026-06-09-00-00-00","prefixes":[{"ip_prefix":"192.0.2.0/24","region":"eu-west-1"}],"ipv6_prefixes":[]}"#;
    for (bytes, kind, name, said, reason) in [
        (AWS.as_bytes()[..AWS.len() / 2].to_vec(), None, None, "the file ends too early", "cut short"),
        (b"<html>busy</html>".to_vec(), None, None, "none of the kinds", "an error page"),
        (AWS.as_bytes().to_vec(), Some(Kind::Gcp), None, "missing field", "another kind than was said"),
        (
            AWS.replace("203.0.113.0/25", "203.0.113.1/25").into_bytes(),
            None,
            None,
            "prefixes[0].ip_prefix",
            "host bits",
        ),
        (one.as_bytes().to_vec(), None, None, "it may be cut short", "far fewer networks"),
        (AWS.replace("2026-06-01-00", "2026-05-01-00").into_bytes(), None, None, "is of 2026-06-01", "older"),
        (AWS.as_bytes().to_vec(), None, Some("country"), "is of kind mmdb", "the name of another kind"),
    ] {
        let path = file(files.path(), "bad", bytes);
        let name = name.map(|name| Name::new(name).unwrap());
        let refused = store.prepare(&path, kind, name).and_then(|prepared| store.commit(prepared, false));
        let error = refused.err().unwrap_or_else(|| panic!("{reason}: it was imported")).to_string();
        assert!(error.contains(said), "{reason}: {error}");
        assert_eq!(contents(kept.path()), before, "{reason}");
    }
    let path = file(files.path(), "few", one);
    store.commit(store.prepare(&path, None, None).unwrap(), true).unwrap();
    assert_eq!(store.load().unwrap()[0].metadata.networks, 1, "unless it is forced");
}

#[test]
fn only_one_import_at_a_time() {
    let (files, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::new(kept.path());
    let held = File::create(kept.path().join(".lock")).unwrap();
    held.lock().unwrap();
    let path = file(files.path(), "a.json", AWS);
    assert!(matches!(import(&store, &path), Err(StoreError::Busy { .. })));
    drop(held);
    import(&store, &path).unwrap();
}

#[test]
fn a_dataset_that_was_changed_on_disk_is_an_error_and_an_import_cures_it() {
    let (files, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::new(kept.path());
    let path = file(files.path(), "a.json", AWS);
    let imported = import(&store, &path).unwrap().metadata;
    let data = data_name(&imported);
    let description = fs::read_to_string(kept.path().join("aws.json")).unwrap();
    for (name, bytes, reason) in [
        (data.as_str(), Some(AWS.replace("eu-central-1", "us-east-1")), "another region"),
        (&data, Some(String::new()), "emptied"),
        (&data, None, "removed"),
        ("aws.json", Some(description.replace("\"aws\"", "\"gcp\"")), "described as another"),
        ("aws.json", Some(description.replace(&imported.sha256, "../../../../etc/shadow")), "a path"),
        ("aws.json", Some(String::new()), "its description emptied"),
    ] {
        match bytes {
            Some(bytes) => fs::write(kept.path().join(name), bytes).unwrap(),
            None => fs::remove_file(kept.path().join(name)).unwrap(),
        }
        let errors = store.load().err().unwrap_or_else(|| panic!("{reason}: it was loaded"));
        let error = errors.iter().map(ToString::to_string).collect::<String>();
        assert!(error.contains("bailiwick regions import FILE --name aws"), "{reason}: {error}");
        import(&store, &path).unwrap();
        assert_eq!(store.load().unwrap().len(), 1, "{reason}: imported again");
    }
}

#[test]
fn a_day_is_found_in_a_file_s_name() {
    for (name, day, reason) in [
        ("ServiceTags_Public_20260615.json", Some(date!(2026 - 06 - 15)), "as Azure names its file"),
        ("ips-2026-06-15.txt", Some(date!(2026 - 06 - 15)), "with hyphens"),
        ("ips-v4", None, "none"),
        ("20261399.json", None, "no such day"),
        ("120260615.json", None, "a longer number"),
    ] {
        assert_eq!(day_in_name(name), day, "{name}: {reason}");
    }
}
