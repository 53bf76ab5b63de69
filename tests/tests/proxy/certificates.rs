//! The listener's certificates are those of the policy in force: a reload reads them anew, and holds the connections that
//! are open against what it read.

use crate::callers::{clients, good, said};
use crate::world::{CHAT, World, ask, limits};
use bailiwick_tests::authority::{Authority, Identity};
use bailiwick_tests::caller::{Protocol, json_request};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Seconds.
const HOUR: i64 = 3600;

/// One request over a connection that stays open; its status and body.
async fn exchange(world: &World, socket: &mut TlsStream<TcpStream>) -> (u16, String) {
    let body = ask("x").to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        world.token(),
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = socket.read(&mut piece).await.unwrap();
        assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&answer));
        answer.extend(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |name: &str| {
            head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix(name).map(|rest| rest.trim().to_owned())
            })
        };
        let whole = match header("content-length:") {
            Some(length) => body.len() >= length.parse().unwrap(),
            None => body.ends_with("0\r\n\r\n"),
        };
        if whole {
            return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
        }
    }
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).unwrap();
}

/// A proxy that asks for certificates of its authority, and knows this list of those that were revoked.
async fn revoking(list: impl FnOnce(&Authority) -> String) -> (World, Identity) {
    let world = World::adjusted(good(), limits(), |settings, directory| {
        settings.proxy.clients = clients(directory, false, false);
    })
    .await;
    let identity = world.authority.issue_client(&["spiffe://example.eu/ml/batch"]).unwrap();
    write(world.directory.path(), "crl.pem", &list(&world.authority));
    reload(&world);
    (world, identity)
}

fn reload(world: &World) {
    world.reload(|settings, directory| {
        settings.proxy.clients = clients(directory, false, false);
        settings.proxy.clients.as_mut().unwrap().revoked = Some(directory.join("crl.pem"));
    });
}

#[tokio::test]
async fn another_certificate_is_shown_after_a_reload_and_open_connections_go_on() {
    let world = World::new(good()).await;
    let mut open = world.raw().await;
    assert_eq!(exchange(&world, &mut open).await.0, 200);
    let successor = Authority::new("another root").unwrap();
    let identity = successor.issue(&["127.0.0.1"]).unwrap();
    write(world.directory.path(), "tls.crt", &identity.certificate);
    write(world.directory.path(), "tls.key", &identity.key);
    assert!(world.raw_as(None, successor.certificate()).await.is_err(), "not before the reload");
    world.reload(|_, _| {});
    assert!(world.raw_as(None, world.authority.certificate()).await.is_err(), "the old one is gone");
    let mut new = world.raw_as(None, successor.certificate()).await.unwrap();
    assert_eq!(exchange(&world, &mut new).await.0, 200);
    assert_eq!(exchange(&world, &mut open).await.0, 200, "what was open is open");
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing_and_is_named() {
    let world = World::new(good()).await;
    let stranger = Authority::new("another root").unwrap().issue(&["127.0.0.1"]).unwrap();
    for (file, text) in
        [("tls.key", stranger.key.as_str()), ("tls.crt", "no certificate"), ("tls.crt", ""), ("tls.key", "")]
    {
        let before = std::fs::read_to_string(world.directory.path().join(file)).unwrap();
        write(world.directory.path(), file, text);
        let error = world.try_reload(|_, _| {}).unwrap_err().to_string();
        assert!(error.contains("tls."), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
        assert_eq!(exchange(&world, &mut world.raw().await).await.0, 200, "{file}: the old one serves");
        write(world.directory.path(), file, &before);
    }
    let error = world
        .try_reload(|settings, directory| {
            settings.proxy.clients = clients(directory, false, false);
            settings.proxy.clients.as_mut().unwrap().revoked = Some(directory.join("tls.key"));
        })
        .unwrap_err();
    assert!(error.to_string().contains("tls.key"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_revoked_ends_on_connections_that_are_open_too() {
    let (world, identity) = revoking(|authority| authority.revoke(&[], HOUR).unwrap()).await;
    let other = world.authority.issue_client(&["spiffe://example.eu/ml/other"]).unwrap();
    let roots = world.authority.certificate();
    let mut open = world.raw_as(Some(&identity), roots).await.unwrap();
    let mut others = world.raw_as(Some(&other), roots).await.unwrap();
    assert_eq!(exchange(&world, &mut open).await.0, 200);
    assert_eq!(exchange(&world, &mut others).await.0, 200);
    write(world.directory.path(), "crl.pem", &world.authority.revoke(&[&identity], HOUR).unwrap());
    assert_eq!(exchange(&world, &mut open).await.0, 200, "not before the reload");
    reload(&world);
    let (status, body) = exchange(&world, &mut open).await;
    assert_eq!(status, 401, "{body}");
    assert!(body.contains("certificate-withdrawn"), "{body}");
    assert_eq!(exchange(&world, &mut others).await.0, 200, "another's is good still");
    let denied = world.recorded("denied", 1).await.remove(0);
    assert_eq!(denied["reason"], "certificate-withdrawn", "{denied}");
    let request = json_request(&world.url(CHAT), Some(&world.token()), &ask("x")).unwrap();
    assert!(
        world.caller(Protocol::Http2).showing(identity).exchange(request).await.is_err(),
        "nor a new one"
    );
}

#[tokio::test]
async fn a_list_that_has_expired_refuses_its_whole_authority_and_no_other_caller() {
    let (world, identity) = revoking(|authority| authority.revoke(&[], HOUR).unwrap()).await;
    let mut open = world.raw_as(Some(&identity), world.authority.certificate()).await.unwrap();
    assert_eq!(exchange(&world, &mut open).await.0, 200);
    write(world.directory.path(), "crl.pem", &world.authority.revoke(&[], -1).unwrap());
    reload(&world);
    let (status, body) = exchange(&world, &mut open).await;
    assert_eq!(status, 401, "{body}");
    let request = || json_request(&world.url(CHAT), Some(&world.token()), &ask("x")).unwrap();
    assert!(world.caller(Protocol::Http1).showing(identity).exchange(request()).await.is_err());
    let answer = world.caller(Protocol::Http1).exchange(request()).await.unwrap();
    assert_eq!(answer.status, 200, "{:?}", said(&answer));
}

#[tokio::test]
async fn connections_without_a_certificate_end_when_one_is_asked_for() {
    let world = World::new(good()).await;
    let mut open = world.raw().await;
    assert_eq!(exchange(&world, &mut open).await.0, 200);
    world.reload(|settings, directory| settings.proxy.clients = clients(directory, true, false));
    let (status, body) = exchange(&world, &mut open).await;
    assert_eq!(status, 401, "{body}");
    assert!(body.contains("certificate-missing"), "{body}");
}
