//! Standard output for messages alone.

use std::fs::File;

/// Takes standard output for the caller's messages: what libraries print there from now on goes to standard error, where it
/// cannot be taken for a message.
///
/// # Errors
/// The system's.
pub fn own_stdout() -> std::io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let own = std::io::stdout().as_fd().try_clone_to_owned()?;
        // Safety: both descriptors are open and stay so.
        if unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(File::from(own))
    }
    #[cfg(not(unix))]
    Err(std::io::Error::other("an agent needs a Unix system"))
}
