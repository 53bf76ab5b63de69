//! Any bytes as what an issuer publishes, or as a client's certificate: an error, or keys that are for algorithms which
//! can be verified without a secret, and endpoints that are fetched over TLS or from the issuer's own loopback address.
#![no_main]

use bailiwick::identity::{ClientCertificate, published};
use libfuzzer_sys::fuzz_target;

const ISSUER: &str = "http://127.0.0.1:9";

fuzz_target!(|input: (Vec<u8>, String)| {
    let (bytes, url) = input;
    if let Some(certificate) = ClientCertificate::read(&bytes) {
        let again = ClientCertificate::read(&bytes).expect("the same bytes were one");
        assert_eq!(certificate.names(), again.names());
    }
    let quoted = serde_json::to_string(&url).expect("a string");
    let document =
        format!(r#"{{"issuer":"{ISSUER}","jwks_uri":{quoted},"introspection_endpoint":{quoted}}}"#);
    for document in [bytes.as_slice(), document.as_bytes()] {
        for endpoint in published(document, &bytes, ISSUER).unwrap_or_default() {
            let own = endpoint.starts_with(&format!("{ISSUER}/"));
            assert!(endpoint.starts_with("https://") || own, "it would fetch {endpoint}");
        }
    }
});
