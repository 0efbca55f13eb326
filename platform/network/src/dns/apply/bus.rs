//! The system bus: calls with a time limit and typed failures. A host without a bus is an ordinary case.

use std::collections::HashMap;
use std::time::Duration;
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, Message, OwnedObjectPath, OwnedVariant, Variant};

/// resolved and NetworkManager answer in milliseconds; a hung one must not hang a connect.
const WAIT: Duration = Duration::from_secs(2);
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no bus, or it went away.
    #[error("the system bus cannot be reached: {0}")]
    Unreachable(#[source] zbus::Error),
    /// No answer in time.
    #[error("{method} was not answered within {} s", WAIT.as_secs())]
    Silent {
        /// The method.
        method: String,
    },
    /// The other side refused, or there is nobody.
    #[error("{method} was refused: {source}")]
    Refused {
        /// The method.
        method: String,
        /// Its answer.
        source: zbus::Error,
    },
    /// The answer has other types than documented.
    #[error("{method} answered something else than documented: {source}")]
    Garbled {
        /// The method.
        method: String,
        /// What is wrong.
        source: zbus::Error,
    },
}

impl BusError {
    /// True when the refusal has this D-Bus error name.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        if let Self::Refused { source: zbus::Error::MethodError(given, ..), .. } = self { given.as_str() == name } else { false }
    }
}

/// A peer's object that calls go to.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Bus name.
    pub service: &'a str,
    /// Object path.
    pub path: &'a str,
    /// Interface.
    pub interface: &'a str,
}

/// A connection that is opened when first needed and again after a loss.
pub struct Bus {
    address: Option<String>,
    connection: Option<Connection>,
}

impl Bus {
    /// The bus at this address; `None` for the system bus.
    #[must_use]
    pub const fn new(address: Option<String>) -> Self {
        Self { address, connection: None }
    }

    /// True when somebody owns the name. False too when there is no bus.
    pub async fn has(&mut self, name: &str) -> bool {
        let daemon = Object { service: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };
        match self.call(daemon, "NameHasOwner", &name).await {
            Ok(answer) => body::<bool>(&answer, "NameHasOwner").unwrap_or(false),
            Err(error) => {
                tracing::debug!(%error, name, "bus name not found");
                false
            }
        }
    }

    /// One call.
    ///
    /// # Errors
    /// See [`BusError`].
    pub async fn call<B>(&mut self, object: Object<'_>, method: &str, arguments: &B) -> Result<Message, BusError>
    where
        B: serde::Serialize + DynamicType + Sync,
    {
        let connection = self.connect().await?;
        let Object { service, path, interface } = object;
        let call = connection.call_method(Some(service), path, Some(interface), method, arguments);
        let result = tokio::time::timeout(WAIT, call).await;
        let method = method.to_owned();
        let error = match result {
            Ok(Ok(message)) => return Ok(message),
            Ok(Err(source @ zbus::Error::InputOutput(_))) => BusError::Unreachable(source),
            Ok(Err(source)) => BusError::Refused { method, source },
            Err(_) => BusError::Silent { method },
        };
        if connection.is_closed() || matches!(error, BusError::Unreachable(_)) {
            self.connection = None;
        }
        Err(error)
    }

    /// One property.
    ///
    /// # Errors
    /// See [`BusError`].
    pub async fn get(&mut self, object: Object<'_>, property: &str) -> Result<OwnedVariant, BusError> {
        let properties = Object { interface: PROPERTIES, ..object };
        let answer = self.call(properties, "Get", &(object.interface, property)).await?;
        body::<OwnedVariant>(&answer, property)
    }

    /// Sets one property.
    ///
    /// # Errors
    /// See [`BusError`].
    pub async fn set(&mut self, object: Object<'_>, property: &str, value: Variant<'_>) -> Result<(), BusError> {
        let properties = Object { interface: PROPERTIES, ..object };
        self.call(properties, "Set", &(object.interface, property, value)).await.map(drop)
    }

    /// A call that answers with an object path.
    ///
    /// # Errors
    /// See [`BusError`].
    pub async fn path<B>(&mut self, object: Object<'_>, method: &str, arguments: &B) -> Result<OwnedObjectPath, BusError>
    where
        B: serde::Serialize + DynamicType + Sync,
    {
        let answer = self.call(object, method, arguments).await?;
        body::<OwnedObjectPath>(&answer, method)
    }

    async fn connect(&mut self) -> Result<Connection, BusError> {
        if let Some(connection) = self.connection.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let builder = match &self.address {
            Some(address) => zbus::connection::Builder::address(address.as_str()),
            None => zbus::connection::Builder::system(),
        };
        let connection = match tokio::time::timeout(WAIT, builder.build()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(source)) => return Err(BusError::Unreachable(source)),
            Err(_) => return Err(BusError::Silent { method: "connect".to_owned() }),
        };
        self.connection = Some(connection.clone());
        Ok(connection)
    }
}

/// The answer as a type.
///
/// # Errors
/// It is of another type.
pub fn body<T>(answer: &Message, method: &str) -> Result<T, BusError>
where
    T: for<'a> DynamicDeserialize<'a>,
{
    answer.body().deserialize::<T>().map_err(|source| garbled(method, source))
}

/// A value as a type.
///
/// # Errors
/// It is of another type.
pub fn value<T>(value: OwnedVariant, property: &str) -> Result<T, BusError>
where
    T: TryFrom<OwnedVariant>,
    zbus::Error: From<T::Error>,
{
    T::try_from(value).map_err(|error| garbled(property, error.into()))
}

fn garbled(method: &str, source: zbus::Error) -> BusError {
    BusError::Garbled { method: method.to_owned(), source }
}

/// `a{sv}` as it arrives.
pub type Dictionary = HashMap<String, OwnedVariant>;
