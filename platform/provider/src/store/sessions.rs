//! Sessions: short access tokens, rotating refresh tokens, and revocation of the family when an old one comes back.

use super::{AccountRow, Refused, Store};
use crate::keys::{random_id, random_token, token_hash};
use sqlx::{Row, Sqlite, Transaction};

/// Life of an access token in seconds.
pub const ACCESS_S: i64 = 3600;
/// Life of a refresh token in seconds.
const REFRESH_S: i64 = 60 * 86_400;
/// For this long a replaced refresh token is answered again, as long as nothing of its successor was used: the answer that
/// carried the successor may have been lost on the way.
const LEEWAY_S: i64 = 30;

/// Fresh tokens; the only copy of them.
pub struct IssuedTokens {
    /// Session id.
    pub session: String,
    /// For calls.
    pub access: String,
    /// For the next refresh.
    pub refresh: String,
    /// Whose.
    pub account: AccountRow,
}

impl Store {
    /// Starts a session.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn start_session(&self, account: &AccountRow, now: i64) -> Result<IssuedTokens, Refused> {
        let session = random_id("ses");
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO session(id,account_id,created_at,generation) VALUES(?,?,?,1)")
            .bind(&session)
            .bind(&account.id)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        let (access, refresh) = issue(&mut tx, &session, 1, now).await?;
        tx.commit().await?;
        Ok(IssuedTokens { session, access, refresh, account: account.clone() })
    }

    /// Exchanges a refresh token for new tokens.
    ///
    /// # Errors
    /// `TokenExpired`, or `SessionRevoked` when the token was used before: then the whole family ends.
    pub async fn refresh_session(&self, token: &str, now: i64) -> Result<IssuedTokens, Refused> {
        let mut tx = self.write().await?;
        let row = sqlx::query(
            "SELECT t.hash,t.generation AS token_generation,t.expires_at,t.replaced_at,s.id AS session_id,s.revoked,s.generation,s.used_generation,
                    a.id AS account_id,a.paid_until,a.password_hash,a.device_limit,a.addons
             FROM token t JOIN session s ON s.id=t.session_id JOIN account a ON a.id=s.account_id WHERE t.hash=? AND t.kind='refresh'",
        )
        .bind(token_hash(token))
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(Refused::TokenExpired)?;
        let session: String = row.try_get("session_id")?;
        if row.try_get::<bool, _>("revoked")? {
            return Err(Refused::SessionRevoked);
        }
        if row.try_get::<i64, _>("expires_at")? <= now {
            return Err(Refused::TokenExpired);
        }
        let own: i64 = row.try_get("token_generation")?;
        let latest: i64 = row.try_get("generation")?;
        let used: i64 = row.try_get("used_generation")?;
        if let Some(replaced_at) = row.try_get::<Option<i64>, _>("replaced_at")? {
            let answer_was_lost = latest == own.saturating_add(1) && used < latest && replaced_at.saturating_add(LEEWAY_S) >= now;
            if !answer_was_lost {
                end(&mut tx, &session).await?;
                tx.commit().await?;
                return Err(Refused::SessionRevoked);
            }
            sqlx::query("DELETE FROM token WHERE session_id=? AND generation=?")
                .bind(&session)
                .bind(latest)
                .execute(&mut *tx)
                .await?;
        }
        let next = own.saturating_add(1);
        sqlx::query("UPDATE token SET replaced_at=coalesce(replaced_at,?) WHERE hash=?")
            .bind(now)
            .bind(token_hash(token))
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE session SET generation=?, used_generation=max(used_generation,?) WHERE id=?")
            .bind(next)
            .bind(own)
            .bind(&session)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM token WHERE session_id=? AND expires_at<=?").bind(&session).bind(now).execute(&mut *tx).await?;
        let (access, refresh) = issue(&mut tx, &session, next, now).await?;
        tx.commit().await?;
        Ok(IssuedTokens { session, access, refresh, account: AccountRow::read(&row)? })
    }

    /// The account and session behind an access token.
    ///
    /// # Errors
    /// `TokenExpired` or `SessionRevoked`.
    pub async fn authenticate(&self, token: &str, now: i64) -> Result<(AccountRow, String), Refused> {
        let row = sqlx::query(
            "SELECT t.generation AS token_generation,t.expires_at,s.id AS session_id,s.revoked,s.used_generation,
                    a.id AS account_id,a.paid_until,a.password_hash,a.device_limit,a.addons
             FROM token t JOIN session s ON s.id=t.session_id JOIN account a ON a.id=s.account_id WHERE t.hash=? AND t.kind='access'",
        )
        .bind(token_hash(token))
        .fetch_optional(&self.pool)
        .await?
        .ok_or(Refused::TokenExpired)?;
        if row.try_get::<bool, _>("revoked")? {
            return Err(Refused::SessionRevoked);
        }
        if row.try_get::<i64, _>("expires_at")? <= now {
            return Err(Refused::TokenExpired);
        }
        let session: String = row.try_get("session_id")?;
        let generation: i64 = row.try_get("token_generation")?;
        if row.try_get::<i64, _>("used_generation")? < generation {
            sqlx::query("UPDATE session SET used_generation=max(used_generation,?) WHERE id=?")
                .bind(generation)
                .bind(&session)
                .execute(&self.pool)
                .await?;
        }
        Ok((AccountRow::read(&row)?, session))
    }

    /// Ends a session and all its tokens.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn end_session(&self, session: &str) -> Result<(), Refused> {
        let mut tx = self.write().await?;
        end(&mut tx, session).await?;
        Ok(tx.commit().await?)
    }
}

async fn issue(
    tx: &mut Transaction<'static, Sqlite>,
    session: &str,
    generation: i64,
    now: i64,
) -> Result<(String, String), Refused> {
    let tokens = (random_token("at"), random_token("rt"));
    for (kind, token, life) in [("access", &tokens.0, ACCESS_S), ("refresh", &tokens.1, REFRESH_S)] {
        sqlx::query("INSERT INTO token(hash,session_id,kind,generation,expires_at) VALUES(?,?,?,?,?)")
            .bind(token_hash(token))
            .bind(session)
            .bind(kind)
            .bind(generation)
            .bind(now.saturating_add(life))
            .execute(&mut **tx)
            .await?;
    }
    Ok(tokens)
}

/// Refresh tokens stay known so that their reuse is recognised; access tokens go.
async fn end(tx: &mut Transaction<'static, Sqlite>, session: &str) -> Result<(), Refused> {
    sqlx::query("UPDATE session SET revoked=1 WHERE id=?").bind(session).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM token WHERE session_id=? AND kind='access'").bind(session).execute(&mut **tx).await?;
    Ok(())
}
