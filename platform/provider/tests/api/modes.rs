//! The cache's files are their owner's alone, by mode where there are modes.

use crate::harness::Provider;
use crate::list::unix;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn the_cache_is_private() {
    let provider = Provider::start().await;
    provider.client().server_list(unix()).await.unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(provider.cache().join("servers.list")), 0o600);
    assert_eq!(mode(provider.cache()), 0o700);
}
