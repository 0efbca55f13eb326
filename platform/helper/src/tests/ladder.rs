//! The ladder's step to the provider: it answers, refuses, is silent, or there is no way to it.

use super::devices::provider;
use super::scripted::Scripted;
use crate::ladder::api_step;
use hamn_core::event::HostFacts;
use hamn_ipc::wire::CheckResult;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test]
async fn the_provider_answers_refuses_or_is_silent() {
    let online = HostFacts { online: true, ipv4: true, ..HostFacts::default() };
    let scripted = Scripted::start().await;
    let base = tempfile::tempdir().unwrap();
    let provider = provider(&scripted, &base.path().join("state")).await;
    let step = async |facts: &HostFacts| {
        let step = api_step(Some(Arc::clone(&provider)), facts).await;
        (step.result, step.code)
    };
    let nobody = api_step(None, &online).await;
    assert_eq!((nobody.result, nobody.code.as_str()), (CheckResult::Skipped, "no_provider"));
    assert_eq!(step(&HostFacts::default()).await, (CheckResult::Skipped, "link_down".to_owned()));
    assert_eq!(scripted.count("GET /v1/ip"), 0, "without a network nobody is asked");
    assert_eq!(step(&online).await, (CheckResult::Pass, "api_answers".to_owned()));
    scripted.state().refuse.insert("GET /v1/ip", (500, "internal"));
    assert_eq!(step(&online).await, (CheckResult::Fail, "provider_error".to_owned()));
    scripted.state().silent = true;
    let started = Instant::now();
    assert_eq!(step(&online).await.0, CheckResult::Fail);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}
