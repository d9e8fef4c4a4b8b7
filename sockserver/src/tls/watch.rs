//! `tls(reload)`: whether the files of the certificates have changed.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use crate::{options::TlsOptions, primitives::Mutex};

/// Looks at the files now and then, when a handshake begins: no thread waits for that.
pub(super) struct Watch {
    interval: Duration,
    /// Empty where the hook names the certificates.
    files: Vec<&'static str>,
    looks: Mutex<Looks>,
}

struct Looks {
    last: Instant,
    loaded: Versions,
    /// These could not be loaded, which was reported.
    failed: Option<Versions>,
}

/// What each file was at a look. `None`: it was not there.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Versions(Vec<Option<Version>>);

/// Another one: the file was written, or another file has taken its name.
#[derive(Clone, PartialEq, Eq)]
struct Version {
    inode: (u64, u64),
    modified: (i64, i64),
    length: u64,
}

impl Watch {
    /// To be called before the files are read: what is written meanwhile is a change.
    pub(super) fn new(options: &TlsOptions) -> Option<Watch> {
        let files: Vec<_> = [options.certificate, options.key, options.client_ca].into_iter().flatten().collect();
        let looks = Mutex::new(Looks { last: Instant::now(), loaded: versions(&files), failed: None });
        options.reload.map(|interval| Watch { interval, files, looks })
    }

    /// What the files are, if it is time for another look and they are to be loaded: as they have changed since they were
    /// loaded last, or as the hook names the certificates.
    pub(super) fn changed(&self) -> Option<Versions> {
        let now = Instant::now();
        {
            let mut looks = self.looks.lock();
            if now.saturating_duration_since(looks.last) < self.interval {
                return None;
            }
            looks.last = now;
        }
        let versions = versions(&self.files);
        (self.files.is_empty() || versions != self.looks.lock().loaded).then_some(versions)
    }

    pub(super) fn note_loaded(&self, versions: Versions) {
        let mut looks = self.looks.lock();
        (looks.loaded, looks.failed) = (versions, None);
    }

    /// They could not be loaded, which the next look tries again: a file may be there that cannot be read yet. Whether that
    /// is to be reported, as it was not.
    pub(super) fn note_failed(&self, versions: Versions) -> bool {
        let mut looks = self.looks.lock();
        let before = looks.failed.replace(versions);
        self.files.is_empty() || before != looks.failed
    }
}

fn versions(files: &[&str]) -> Versions {
    let version = |file: &&str| {
        let metadata = fs::metadata(file).ok()?;
        Some(Version {
            inode: (metadata.dev(), metadata.ino()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
        })
    };
    Versions(files.iter().map(version).collect())
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn files_that_could_not_be_loaded_are_tried_again_and_reported_once() {
        let file = env::temp_dir().join(format!("sockserver-watch-{}", std::process::id()));
        let mut options = TlsOptions::new().certificate(file.to_str().expect("text").to_owned().leak());
        options.reload = Some(Duration::ZERO);
        let watch = Watch::new(&options).expect("it is to reload");
        assert!(watch.changed().is_none(), "there is no file yet");
        fs::write(&file, "a certificate").expect("a new file");
        let changed = || watch.changed().expect("a file that was not loaded");
        assert!(watch.note_failed(changed()));
        assert!(!watch.note_failed(changed()));
        fs::write(&file, "another certificate").expect("the same file");
        assert!(watch.note_failed(changed()));
        watch.note_loaded(changed());
        assert!(watch.changed().is_none());
        fs::remove_file(&file).expect("the file");
    }
}
