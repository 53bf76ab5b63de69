//! Tokens that are bound to a certificate, and certificates as a factor or an identity.

use super::*;
use rcgen::{CertificateParams, SanType};

fn certificate(uri: &str) -> ClientCertificate {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.subject_alt_names.push(SanType::URI(uri.to_owned().try_into().unwrap()));
    // Past any time that these tests ask at.
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    ClientCertificate::read(made.der()).unwrap()
}

async fn shown(
    authenticator: &Authenticator,
    headers: &HeaderMap,
    certificate: Option<&ClientCertificate>,
) -> Result<Arc<Principal>, &'static str> {
    authenticator.authenticate_at(headers, certificate, NOW).await.map_err(|error| error.code)
}

#[tokio::test]
async fn a_bound_token_is_good_with_its_certificate_and_no_other() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    let (own, other) = (certificate("spiffe://example.eu/a"), certificate("spiffe://example.eu/b"));
    let print = URL_SAFE_NO_PAD.encode(own.thumbprint.0);
    let token = bearer(&signer.token(&with(&provider.claims(), json!({"cnf": {"x5t#S256": print}}))));
    // Twice: the second time from what is remembered.
    for _ in 0..2 {
        let principal = shown(&authenticator, &token, Some(&own)).await.unwrap();
        assert_eq!((principal.subject.as_str(), &principal.certificate[..]), ("ada", own.names()));
        for certificate in [None, Some(&other)] {
            assert_eq!(shown(&authenticator, &token, certificate).await, Err("token-binding-mismatch"));
        }
    }
    let dpop = bearer(&signer.token(&with(&provider.claims(), json!({"cnf": {"jkt": print}}))));
    assert_eq!(shown(&authenticator, &dpop, Some(&own)).await, Err("token-binding-not-supported"));

    let free = bearer(&signer.token(&provider.claims()));
    assert!(shown(&authenticator, &free, None).await.is_ok());
    let strict = Authenticator::new(vec![Issuer { bound: true, ..provider.issuer() }]);
    assert_eq!(shown(&strict, &free, Some(&own)).await, Err("token-not-bound"), "the config asks for it");
    assert!(shown(&strict, &token, Some(&own)).await.is_ok());
}

#[tokio::test]
async fn a_certificate_is_an_identity_only_where_the_config_says_so() {
    let provider = Provider::start(vec![]).await;
    let own = certificate("spiffe://example.eu/batch");
    let nothing = HeaderMap::new();
    let tokens_only = Authenticator::new(vec![provider.issuer()]);
    assert_eq!(shown(&tokens_only, &nothing, Some(&own)).await, Err("no-credentials"));

    let taking = Authenticator::new(vec![provider.issuer()]).taking_certificates(true);
    let principal = shown(&taking, &nothing, Some(&own)).await.unwrap();
    assert_eq!(principal.issuer, Principal::BY_CERTIFICATE);
    assert_eq!(principal.subject, "spiffe://example.eu/batch");
    assert!(principal.groups.is_empty(), "a certificate vouches for no group");
    assert_eq!(shown(&taking, &nothing, None).await, Err("no-credentials"));
    assert_eq!(
        shown(&taking, &bearer("bad"), Some(&own)).await,
        Err("token-opaque"),
        "a bad token is not passed over"
    );
    let nameless = ClientCertificate { names: vec![], ..own.clone() };
    assert_eq!(shown(&taking, &nothing, Some(&nameless)).await, Err("certificate-nameless"));
    let old = ClientCertificate { good_until: NOW, ..own };
    assert_eq!(
        shown(&taking, &nothing, Some(&old)).await,
        Err("certificate-expired"),
        "on a connection that outlived it"
    );
}
