//! Directories under Windows: made with a protected list, and refused with the way out when others can touch them.

use super::*;

// FS-03
#[test]
fn what_we_make_is_trusted_and_what_everybody_can_change_is_not() {
    let base = tempfile::tempdir().unwrap();
    let made = base.path().join("above").join("made");
    private(&made).unwrap();
    private(&made).unwrap();
    is_private(&base.path().join("above")).unwrap();
    assert!(is_private(&base.path().join("none")).is_err());
    let file = base.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(private(&file).unwrap_err().to_string().contains("not a directory"));
    if Path::new("C:\\windows\\system32\\winecfg.exe").exists() {
        // Wine makes every directory the same, whatever list it is given.
        return;
    }
    for (sddl, privacy) in [("D:P(A;OICI;FA;;;WD)", Privacy::Readable), ("D:P(A;OICI;FA;;;BA)(A;OICI;FR;;;WD)", Privacy::Closed)]
    {
        let open = base.path().join(format!("{privacy:?}"));
        apply::create_with(&open, sddl).unwrap();
        let told = apply::check_directory(&open, privacy).unwrap_err().to_string();
        assert!(told.contains("icacls") && told.contains("S-1-1-0"), "{told}");
    }
    readable(&base.path().join("Closed")).unwrap();
}
