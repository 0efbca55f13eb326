//! The calls that the provider answers: session, account, devices. They run beside the loop and report to it.

use crate::calls::Answer;
use crate::clock;
use crate::device::Rotation;
use crate::provider::{Provider, says_no_such_device};
use crate::service::Report;
use hamn_api::{ApiError, Credentials, Token};
use hamn_core::event::Event;
use hamn_core::state::BlockReason;
use hamn_ipc::{Problem, ProblemCode, Response, wire};
use std::sync::Arc;
use tokio::sync::mpsc;

pub(crate) async fn log_in(provider: Arc<Provider>, reports: mpsc::Sender<Report>, login: wire::LoginRequest) -> Answer {
    let secret = |secret: &wire::Secret| Token::new(secret.reveal().to_owned());
    let credentials = Credentials {
        account: secret(&login.account),
        password: login.password.as_ref().map(secret),
        otp: login.otp.as_ref().map(secret),
    };
    let result = provider.login(&credentials).await;
    let _ = reports.send(Report::Event(Event::ApiAddresses(provider.endpoints()))).await;
    match result {
        Ok(true) => drop(reports.send(Report::DeviceChanged).await),
        Ok(false) => drop(reports.send(Report::Event(Event::CredentialsChanged)).await),
        Err(error) => return Err(api_problem(&error)),
    }
    account(provider).await
}

pub(crate) async fn account(provider: Arc<Provider>) -> Answer {
    if !provider.logged_in() {
        return Ok(Response::Account(wire::AccountInfo::default()));
    }
    let account = provider.client.account().await.map_err(|error| api_problem(&error))?;
    let device = provider.stored_device().ok().flatten().map(|device| device.id);
    Ok(Response::Account(wire::AccountInfo {
        logged_in: true,
        id: Some(account.id),
        status: Some(account.status),
        paid_until: account.paid_until,
        device_limit: Some(account.device_limit),
        addons: account.addons,
        device,
    }))
}

pub(crate) async fn devices(provider: Arc<Provider>) -> Answer {
    if !provider.logged_in() {
        return Err(Problem::new(ProblemCode::LoggedOut));
    }
    let own = provider.stored_device().ok().flatten().map(|device| device.id);
    let devices = provider.client.devices().await.map_err(|error| api_problem(&error))?;
    let limit = provider.client.account().await.ok().map(|account| account.device_limit);
    let entry = |device: hamn_api::Device| wire::DeviceEntry {
        current: own.as_deref() == Some(device.id.as_str()),
        id: device.id,
        name: device.name,
        platform: None,
        created_at: Some(device.created_at),
    };
    Ok(Response::Devices(wire::DeviceList { limit, devices: devices.into_iter().map(entry).collect() }))
}

/// The tunnel takes the new key without an interruption: the provider accepts the old one for a while.
pub(crate) async fn rotate_key(provider: Arc<Provider>, reports: mpsc::Sender<Report>) -> Answer {
    if !provider.logged_in() {
        return Err(Problem::new(ProblemCode::LoggedOut));
    }
    match provider.rotate_key_if_due(clock::now().unix_s, Rotation::Now).await {
        Ok(Some(key)) => drop(reports.send(Report::KeyRotated(key)).await),
        Ok(None) => {
            return Err(Problem::with_detail(
                ProblemCode::Conflict,
                "This computer has no key yet: it gets one with the first tunnel.",
            ));
        }
        Err(error) if says_no_such_device(&error) => {
            drop(reports.send(Report::DeviceChanged).await);
            return Err(Problem::new(ProblemCode::DeviceRevoked));
        }
        Err(error) => return Err(api_problem(&error)),
    }
    devices(provider).await
}

pub(crate) async fn remove_device(provider: Arc<Provider>, reports: mpsc::Sender<Report>, id: String) -> Answer {
    let removed = provider.remove_device(&id).await;
    let own = matches!(removed, Ok(true));
    // Room for this computer, or the end of its own device.
    let _ = reports.send(if own { Report::DeviceChanged } else { Report::Event(Event::CredentialsChanged) }).await;
    match removed {
        Ok(_) => devices(provider).await,
        Err(error) if says_no_such_device(&error) => {
            Err(Problem::with_detail(ProblemCode::NotFound, "The account has no such device."))
        }
        Err(error) => Err(api_problem(&error)),
    }
}

/// The same code in API, CLI and window: the provider's errors become the reasons that a blocked state has.
fn api_problem(error: &ApiError) -> Problem {
    let unreachable = error.block_reason() == BlockReason::ApiUnreachable;
    let code = match error {
        ApiError::Throttled { .. } => ProblemCode::TooManyRequests,
        ApiError::Problem(problem) if unreachable && problem.status == 404 => ProblemCode::NotFound,
        ApiError::Problem(problem) if unreachable && problem.status == 429 => ProblemCode::TooManyRequests,
        ApiError::Problem(_) if unreachable => ProblemCode::ProviderError,
        ApiError::Status(_) | ApiError::NotJson | ApiError::TooBig | ApiError::Broken | ApiError::Redirect(_) => {
            ProblemCode::ProviderError
        }
        ApiError::Config(_)
        | ApiError::Unreachable(_)
        | ApiError::Timeout
        | ApiError::Tls { .. }
        | ApiError::Compressed
        | ApiError::BadSignature
        | ApiError::BadList(_)
        | ApiError::Rollback { .. }
        | ApiError::Problem(_)
        | ApiError::NotLoggedIn
        | ApiError::Storage(_) => ProblemCode::from(error.block_reason()),
    };
    Problem::with_detail(code, error.to_string())
}
