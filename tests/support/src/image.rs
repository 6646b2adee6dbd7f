//! Small images for pushes, built locally: nothing is downloaded.

use crate::command::run;
use crate::stack::Stack;
use anyhow::Result;
use std::path::PathBuf;

/// An image archive in a file.
pub(crate) struct Image {
    pub(crate) file: PathBuf,
    /// The digest (`sha256:…`) of its manifest, by which a registry identifies it.
    pub(crate) digest: String,
    _folder: tempfile::TempDir,
}

impl Image {
    /// Creates an image with a unique layer, so that a push always has something to upload.
    pub(crate) async fn unique(stack: &Stack) -> Result<Self> {
        let folder = stack.scratch()?;
        let (layer, file) = (
            folder.path().join("layer.tar"),
            folder.path().join("image.tar"),
        );
        std::fs::write(
            &layer,
            tar(
                "hello.txt",
                &format!("registry-grants {:032x}\n", fastrand::u128(..)),
            ),
        )?;
        let crane = &stack.info.bin.crane;
        let append = [
            "append",
            "--oci-empty-base",
            "--new_tag",
            "local/image:made",
            "--new_layer",
        ]
        .map(Into::into);
        let append = append.into_iter().chain([
            layer.into_os_string(),
            "--output".into(),
            file.clone().into_os_string(),
        ]);
        run(crane, append, folder.path(), &[], None).await?.ok()?;
        let digest = digest(stack, &file).await?;
        Ok(Self {
            file,
            digest,
            _folder: folder,
        })
    }
}

/// Returns the digest of the image in a file.
pub(crate) async fn digest(stack: &Stack, file: &std::path::Path) -> Result<String> {
    let arguments = ["digest".as_ref(), "--tarball".as_ref(), file.as_os_str()];
    let digest = run(&stack.info.bin.crane, arguments, file, &[], None)
        .await?
        .ok()?;
    Ok(digest.trim().to_owned())
}

/// Builds an archive (POSIX ustar) with one text file.
fn tar(name: &str, text: &str) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut header = [0u8; BLOCK];
    let mut field =
        |at: usize, value: &str| header[at..at + value.len()].copy_from_slice(value.as_bytes());
    field(0, name);
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", text.len()));
    field(136, "00000000000\0");
    field(148, "        "); // its own sum counts as spaces
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());

    let mut archive = header.to_vec();
    archive.extend(text.as_bytes());
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}
