//! An issuer's keys over time: they rotate, are withdrawn, and cannot be had for a while.

use super::*;

#[tokio::test]
async fn a_new_key_is_found_and_made_up_key_ids_cost_one_fetch() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "ES256"));
    let provider = Provider::start(vec![old.jwk.clone()]).await;
    let timing = Timing { debounce: Duration::from_millis(300), ..Timing::default() };
    let authenticator = Arc::new(Authenticator::with_timing(vec![provider.issuer()], timing));
    assert_eq!(code(&authenticator, &old.token(&provider.claims()), NOW).await, "ok");

    *provider.keys.lock().unwrap() = vec![new.jwk.clone()];
    let token = new.token(&provider.claims());
    assert_eq!(code(&authenticator, &token, NOW).await, "key-unknown", "fetched a moment ago");
    tokio::time::sleep(timing.debounce).await;
    let flood: Vec<_> = (0..50)
        .map(|n| {
            let made_up =
                new.token_with(&json!({"alg": "ES256", "kid": format!("x{n}")}), &provider.claims());
            let authenticator = Arc::clone(&authenticator);
            tokio::spawn(async move { code(&authenticator, &made_up, NOW).await })
        })
        .collect();
    for one in flood {
        assert_eq!(one.await.unwrap(), "key-unknown");
    }
    assert_eq!(provider.fetched(), 2, "fifty unknown key ids, one fetch");
    assert_eq!(code(&authenticator, &token, NOW).await, "ok", "the new key is there");
    assert_eq!(
        code(&authenticator, &old.token(&provider.claims()), NOW).await,
        "key-unknown",
        "the old one is gone"
    );
}

#[tokio::test]
async fn a_key_id_that_is_used_again_is_found_and_forgeries_cost_one_fetch() {
    let (old, new, forger) =
        (Signer::new("k", "ES256"), Signer::new("k", "ES256"), Signer::new("k", "ES256"));
    let provider = Provider::start(vec![old.jwk.clone()]).await;
    let timing = Timing { debounce: Duration::from_millis(300), ..Timing::default() };
    let authenticator = Arc::new(Authenticator::with_timing(vec![provider.issuer()], timing));
    let (by_old, by_new) = (old.token(&provider.claims()), new.token(&provider.claims()));
    assert_eq!(code(&authenticator, &by_old, NOW).await, "ok");

    *provider.keys.lock().unwrap() = vec![new.jwk.clone()];
    assert_eq!(code(&authenticator, &by_new, NOW).await, "signature-invalid", "fetched a moment ago");
    tokio::time::sleep(timing.debounce).await;
    let flood: Vec<_> = (0..50)
        .map(|n| {
            let forged = forger.token(&with(&provider.claims(), json!({"jti": n})));
            let authenticator = Arc::clone(&authenticator);
            tokio::spawn(async move { code(&authenticator, &forged, NOW).await })
        })
        .collect();
    for one in flood {
        assert_eq!(one.await.unwrap(), "signature-invalid");
    }
    assert_eq!(provider.fetched(), 2, "fifty forgeries, one fetch");
    assert_eq!(code(&authenticator, &by_new, NOW).await, "ok", "the new key is there");
    assert_eq!(code(&authenticator, &by_old, NOW).await, "signature-invalid", "remembered, and dropped");
}

#[tokio::test]
async fn keys_without_an_id_and_ids_with_another_kind_of_key_rotate_too() {
    for (before, after, why) in [("ES256", "ES256", "no key id"), ("ES256", "EdDSA", "another kind of key")] {
        let (mut old, mut new) = (Signer::new("k", before), Signer::new("k", after));
        if before == after {
            for signer in [&mut old, &mut new] {
                signer.jwk.as_object_mut().unwrap().remove("kid");
            }
        }
        let header = |signer: &Signer| {
            with(
                &json!({"alg": signer.algorithm, "typ": "at+jwt"}),
                match signer.jwk.get("kid") {
                    None => json!({}),
                    Some(kid) => json!({"kid": kid}),
                },
            )
        };
        let provider = Provider::start(vec![old.jwk.clone()]).await;
        let timing = Timing { debounce: Duration::from_millis(1), ..Timing::default() };
        let authenticator = Authenticator::with_timing(vec![provider.issuer()], timing);
        let token = |signer: &Signer| signer.token_with(&header(signer), &provider.claims());
        assert_eq!(code(&authenticator, &token(&old), NOW).await, "ok", "{why}");
        *provider.keys.lock().unwrap() = vec![new.jwk.clone()];
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(code(&authenticator, &token(&new), NOW).await, "ok", "{why}");
        assert_eq!(provider.fetched(), 2, "{why}");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_denies_its_own_callers_and_recovers() {
    let signer = Signer::new("k1", "ES256");
    let (down, up) =
        (Provider::start(vec![signer.jwk.clone()]).await, Provider::start(vec![signer.jwk.clone()]).await);
    down.up.store(false, Ordering::SeqCst);
    let timing = Timing { retry: Duration::from_millis(50), ..Timing::default() };
    let authenticator = Authenticator::with_timing(vec![down.issuer(), up.issuer()], timing);
    let token = signer.token(&down.claims());
    let error = authenticator.authenticate_at(&bearer(&token), None, NOW).await.unwrap_err();
    assert_eq!((error.status.as_u16(), error.code), (503, "issuer-unavailable"));
    assert_eq!(error.issuer.as_deref(), Some(down.url.as_str()));
    assert_eq!(
        code(&authenticator, &signer.token(&up.claims()), NOW).await,
        "ok",
        "the other issuer's callers"
    );
    down.up.store(true, Ordering::SeqCst);
    tokio::time::sleep(timing.retry).await;
    assert_eq!(code(&authenticator, &token, NOW).await, "ok", "recovered by itself");
}

#[tokio::test]
async fn last_good_keys_serve_while_the_provider_is_down_but_not_for_ever() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let timing = Timing {
        refresh_after: Duration::from_millis(100),
        serve_until: Duration::from_secs(3),
        debounce: Duration::from_millis(50),
        retry: Duration::from_millis(50),
    };
    let authenticator = Authenticator::with_timing(vec![provider.issuer()], timing);
    let token = signer.token(&provider.claims());
    assert_eq!(code(&authenticator, &token, NOW).await, "ok");
    tokio::time::sleep(timing.refresh_after).await;
    assert_eq!(code(&authenticator, &token, NOW).await, "ok");
    let refreshed = async {
        while provider.fetched() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refreshed)
        .await
        .expect("refreshed in the background, on use");
    provider.up.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(code(&authenticator, &token, NOW).await, "ok", "the last good keys serve");
    tokio::time::sleep(timing.serve_until).await;
    assert_eq!(code(&authenticator, &token, NOW).await, "issuer-unavailable", "too old, cached token or not");
}

#[tokio::test]
async fn a_provider_that_speaks_for_another_issuer_is_not_believed() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    *provider.claims_to_be.lock().unwrap() = Some("https://login.example.eu".into());
    let authenticator = Authenticator::new(vec![provider.issuer()]);
    assert_eq!(code(&authenticator, &signer.token(&provider.claims()), NOW).await, "issuer-unavailable");
    assert_eq!(provider.fetched(), 0, "its keys were not even asked for");
}

#[tokio::test]
async fn a_withdrawn_key_drops_the_tokens_it_signed_though_nobody_calls() {
    let (old, new) = (Signer::new("old", "ES256"), Signer::new("new", "ES256"));
    let provider = Provider::start(vec![old.jwk.clone(), new.jwk.clone()]).await;
    let timing = Timing { refresh_after: Duration::from_millis(150), ..Timing::default() };
    let authenticator = Authenticator::with_timing(
        vec![provider.issuer()],
        Timing { retry: Duration::from_millis(20), ..timing },
    );
    authenticator.warm_up();
    let (by_old, by_new) = (old.token(&provider.claims()), new.token(&provider.claims()));
    assert_eq!(code(&authenticator, &by_old, NOW).await, "ok");
    assert_eq!(code(&authenticator, &by_new, NOW).await, "ok");
    *provider.keys.lock().unwrap() = vec![new.jwk.clone()];
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(
        code(&authenticator, &by_old, NOW).await,
        "key-unknown",
        "remembered, and dropped with its key"
    );
    assert_eq!(code(&authenticator, &by_new, NOW).await, "ok");
}

#[tokio::test]
async fn an_issuer_that_was_down_at_the_start_is_found_without_a_caller() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    provider.up.store(false, Ordering::SeqCst);
    let timing = Timing { retry: Duration::from_millis(20), ..Timing::default() };
    let authenticator = Authenticator::with_timing(vec![provider.issuer()], timing);
    authenticator.warm_up();
    authenticator.warm_up();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(provider.fetched(), 0);
    provider.up.store(true, Ordering::SeqCst);
    for _ in 0..200 {
        if provider.fetched() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(provider.fetched(), 1, "once, however often it was told to");
    drop(authenticator);
}

#[tokio::test]
async fn a_reload_keeps_the_keys_of_an_issuer_that_changed_in_other_ways() {
    let signer = Signer::new("k1", "ES256");
    let provider = Provider::start(vec![signer.jwk.clone()]).await;
    let before = Authenticator::new(vec![provider.issuer()]);
    let token = signer.token(&provider.claims());
    assert_eq!(code(&before, &token, NOW).await, "ok");
    let after = before
        .with_issuers(vec![Issuer { audience: "another".into(), ..provider.issuer() }], Timing::default());
    assert_eq!(code(&after, &token, NOW).await, "audience-mismatch", "what was remembered is not believed");
    assert_eq!(provider.fetched(), 1, "the keys are the same");
}
