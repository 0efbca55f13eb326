//! Signing for Windows, by `osslsigncode`: Authenticode on programs, the MSI and the setup program.

use super::super::{output, tool};
use crate::system::Need;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// What signing needs.
pub const NEEDS: &[Need] = &[("osslsigncode", "osslsigncode")];

/// Who signs, and who says when.
#[derive(Clone, Debug)]
pub struct Signer {
    /// `.p12` or `.pfx`, or PEM with certificates and key.
    certificate: PathBuf,
    /// A file with the key's password.
    password: Option<PathBuf>,
    /// A server for time stamps. The only part of packing that uses a network.
    time_stamps: Option<String>,
}

impl Signer {
    /// Takes the password's file from `HAMN_SIGN_PASSWORD_FILE` and the server from `HAMN_TIMESTAMP_URL`.
    pub fn new(certificate: PathBuf) -> Result<Self> {
        ensure!(certificate.is_file(), "{} does not exist", certificate.display());
        Ok(Self {
            certificate: std::path::absolute(certificate)?,
            password: std::env::var_os("HAMN_SIGN_PASSWORD_FILE").map(PathBuf::from),
            time_stamps: std::env::var("HAMN_TIMESTAMP_URL").ok(),
        })
    }

    /// Signs a file in place.
    pub fn sign(&self, path: &Path, title: &str) -> Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".signed");
        let signed = PathBuf::from(name);
        let _ = std::fs::remove_file(&signed);
        let mut sign = tool("osslsigncode")?;
        sign.args(["sign", "-h", "sha256", "-n", title]);
        let extension = self.certificate.extension().and_then(|text| text.to_str()).unwrap_or_default();
        if matches!(extension, "p12" | "pfx") {
            sign.arg("-pkcs12").arg(&self.certificate);
        } else {
            sign.arg("-certs").arg(&self.certificate).arg("-key").arg(&self.certificate);
        }
        if let Some(password) = &self.password {
            sign.arg("-readpass").arg(password);
        }
        if let Some(url) = &self.time_stamps {
            sign.args(["-ts", url]);
        }
        output(sign.arg("-in").arg(path).arg("-out").arg(&signed))?;
        std::fs::rename(&signed, path).with_context(|| format!("replace {}", path.display()))
    }
}
