//! Runs asynchronous work of a subcommand.

/// Runs a future of a subcommand that makes only a few calls.
pub fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}
