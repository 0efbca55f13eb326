//! Registers the service as `plan` says, reads it back, and takes it away again. The installers call it; doing it twice is
//! as good as once.
#![expect(unsafe_code, reason = "the privileges of a service have no safe wrapper")]

use super::plan::{ARGUMENT, EVENT_KEY, NAME, ServicePlan};
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use windows_registry::LOCAL_MACHINE;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceFailureActions,
    ServiceFailureResetPeriod, ServiceInfo, ServiceSidType, ServiceStartType, ServiceState, ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_sys::Win32::Foundation::{
    ERROR_INVALID_LEVEL, ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_EXISTS, ERROR_SERVICE_MARKED_FOR_DELETE,
};
use windows_sys::Win32::System::Services::{
    ChangeServiceConfig2W, SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, SERVICE_REQUIRED_PRIVILEGES_INFOW,
};

/// How long a stop, or an earlier registration that is being removed, is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the service be as the plan says. The sentences say what was done, and what this system does not know.
///
/// # Errors
/// A step was refused; those before it are done.
pub fn install(plan: &ServicePlan) -> anyhow::Result<Vec<String>> {
    let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
    let manager = ServiceManager::local_computer(None::<&str>, access).context("open the service manager")?;
    let info = information(plan);
    let service = create_or_open(&manager, &info)?;
    service.change_config(&info).context("set the service's program")?;
    let mut done = vec![format!("the service {} runs {}", plan.name, plan.image_path)];
    service.set_description(plan.description).context("set the description")?;
    service.update_failure_actions(recovery(plan)).context("set the recovery actions")?;
    let level = |what: &str, result: Result<(), windows_service::Error>| known_level(what, result.map_err(as_io));
    done.extend(level("recovery after an error", service.set_failure_actions_on_non_crash_failures(plan.also_without_crash))?);
    done.extend(level(
        "time before a shutdown",
        service.set_preshutdown_timeout(Duration::from_millis(plan.preshutdown_ms.into())),
    )?);
    let sid = if plan.unrestricted_sid { ServiceSidType::Unrestricted } else { ServiceSidType::None };
    done.extend(level("service SID", service.set_config_service_sid_info(sid))?);
    done.extend(known_level("required privileges", require_privileges(&service, plan))?);
    register_source(plan).context("register the event source")?;
    done.push(format!("events go to the application log as {}", super::plan::EVENT_SOURCE));
    read_back(&service, plan)?;
    Ok(done)
}

/// Stops the service and takes it away, with its event source. Rules that are in force stay.
///
/// # Errors
/// A step was refused.
pub fn uninstall() -> anyhow::Result<Vec<String>> {
    let manager =
        ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT).context("open the service manager")?;
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE;
    let mut done = Vec::new();
    match manager.open_service(NAME, access) {
        Ok(service) => {
            stop(&service)?;
            service.delete().or_else(ignoring(ERROR_SERVICE_MARKED_FOR_DELETE)).context("remove the service")?;
            done.push(format!("the service {NAME} is removed"));
        }
        Err(error) if code(&error) == Some(ERROR_SERVICE_DOES_NOT_EXIST) => done.push(format!("there is no service {NAME}")),
        Err(error) => return Err(error).context("open the service"),
    }
    if LOCAL_MACHINE.open(EVENT_KEY).is_ok() {
        LOCAL_MACHINE
            .remove_tree(EVENT_KEY)
            .map_err(|error| anyhow::anyhow!(error.message()))
            .context("remove the event source")?;
        done.push("the event source is removed".to_owned());
    }
    Ok(done)
}

fn information(plan: &ServicePlan) -> ServiceInfo {
    ServiceInfo {
        name: OsString::from(plan.name),
        display_name: OsString::from(plan.display_name),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        // The crate quotes the path by itself.
        executable_path: PathBuf::from(&plan.program),
        launch_arguments: vec![OsString::from(ARGUMENT)],
        // The packet filter and the adapters come first.
        dependencies: ["BFE", "NSI"].map(|name| windows_service::service::ServiceDependency::Service(name.into())).to_vec(),
        account_name: None,
        account_password: None,
    }
}

fn create_or_open(manager: &ServiceManager, info: &ServiceInfo) -> anyhow::Result<Service> {
    let access = ServiceAccess::QUERY_CONFIG | ServiceAccess::CHANGE_CONFIG | ServiceAccess::QUERY_STATUS | ServiceAccess::START;
    let started = Instant::now();
    loop {
        match manager.create_service(info, access) {
            Ok(service) => return Ok(service),
            Err(error) if code(&error) == Some(ERROR_SERVICE_EXISTS) => {
                return manager.open_service(NAME, access).context("open the service");
            }
            // Removed, but somebody still holds it open.
            Err(error) if code(&error) == Some(ERROR_SERVICE_MARKED_FOR_DELETE) && started.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error).context("create the service"),
        }
    }
}

fn recovery(plan: &ServicePlan) -> ServiceFailureActions {
    let restart =
        |after_ms: u32| ServiceAction { action_type: ServiceActionType::Restart, delay: Duration::from_millis(after_ms.into()) };
    ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(Duration::from_secs(plan.reset_after_s.into())),
        reboot_msg: None,
        command: None,
        actions: Some(plan.restart_after_ms.map(restart).to_vec()),
    }
}

/// `SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO` of `ChangeServiceConfig2W`.
fn require_privileges(service: &Service, plan: &ServicePlan) -> io::Result<()> {
    let mut names = plan.privileges_multi_string();
    let wanted = SERVICE_REQUIRED_PRIVILEGES_INFOW { pmszRequiredPrivileges: names.as_mut_ptr() };
    let handle = service.raw_handle();
    // SAFETY: the service is open with the right to change it, and names and structure live through the call.
    let done = unsafe { ChangeServiceConfig2W(handle, SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, (&raw const wanted).cast()) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Windows knows these levels since Vista; where one is not known (Wine), that is told and the rest goes on.
fn known_level(what: &str, result: io::Result<()>) -> anyhow::Result<Option<String>> {
    match result {
        Ok(()) => Ok(None),
        Err(error) if error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_INVALID_LEVEL) => {
            Ok(Some(format!("this system does not know: {what} ({error})")))
        }
        Err(error) => Err(error).with_context(|| format!("set: {what}")),
    }
}

fn register_source(plan: &ServicePlan) -> anyhow::Result<()> {
    let source = &plan.event_source;
    let written = || {
        let key = LOCAL_MACHINE.create(source.key)?;
        key.set_expand_string("EventMessageFile", source.message_file)?;
        key.set_u32("TypesSupported", source.types)
    };
    written().map_err(|error| anyhow::anyhow!(error.message()))
}

/// What the service manager has by now is what the plan says.
fn read_back(service: &Service, plan: &ServicePlan) -> anyhow::Result<()> {
    let found = service.query_config().context("read the service back")?;
    let path = found.executable_path.to_string_lossy().into_owned();
    // Some versions put quotation marks around every path, which is as good.
    let same = path == plan.image_path || path == format!("\"{}\" {ARGUMENT}", plan.program);
    if !same || found.start_type != ServiceStartType::AutoStart {
        bail!("the service is not as it was set: it runs {path}, start {:?}", found.start_type);
    }
    Ok(())
}

fn stop(service: &Service) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut asked = false;
    while service.query_status().context("ask how the service is")?.current_state != ServiceState::Stopped {
        if started.elapsed() > PATIENCE {
            bail!("the service does not stop");
        }
        if !asked {
            // One that is just starting or ending refuses; it is asked again.
            asked = service.stop().is_ok();
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn ignoring(known: u32) -> impl FnOnce(windows_service::Error) -> Result<(), windows_service::Error> {
    move |error| if code(&error) == Some(known) { Ok(()) } else { Err(error) }
}

fn code(error: &windows_service::Error) -> Option<u32> {
    if let windows_service::Error::Winapi(error) = error { error.raw_os_error().map(i32::cast_unsigned) } else { None }
}

fn as_io(error: windows_service::Error) -> io::Error {
    if let windows_service::Error::Winapi(error) = error { error } else { io::Error::other(error.to_string()) }
}
