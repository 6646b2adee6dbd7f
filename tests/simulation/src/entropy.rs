//! Replaces the system's random numbers, so that one seed gives one run.
//!
//! Hash maps, tokio's scheduler, `fastrand` and the SDK take their randomness from the system's
//! `getrandom`. This file defines that function for the whole program. A thread that
//! [`in_own_thread`] started gets numbers that its seed determines; every other thread gets the
//! system's.
//!
//! `ahash`, which the caches of `kube-runtime` use, numbers its maps in the whole process instead. It
//! gets another source, which [`in_own_thread`] sets.
//!
//! Most of these sources keep state for their thread, such as the keys of hash maps. So each run
//! has a thread of its own: see [`in_own_thread`].

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_long, c_uint, c_void};
use std::sync::OnceLock;
use tokio::task::LocalSet;

/// The number of the system call `getrandom`.
#[cfg(target_arch = "x86_64")]
const GETRANDOM: c_long = 318;
#[cfg(target_arch = "aarch64")]
const GETRANDOM: c_long = 278;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// The stack of a thread, in bytes. An unoptimised operator that is polled as a single future needs
/// more than the two MiB of a usual thread.
const STACK: usize = 32 << 20;

/// Makes all randomness of this thread depend on this seed.
fn seed_thread(seed: u64) {
    STATE.with(|state| state.set(Some(seed)));
    fastrand::seed(seed);
}

/// Runs a function in a new thread whose randomness this seed determines. A panic in it becomes the
/// error.
///
/// # Errors
/// When the function panicked.
pub fn in_own_thread<T: Send>(seed: u64, run: impl FnOnce() -> T + Send) -> std::thread::Result<T> {
    static AHASH: OnceLock<()> = OnceLock::new();
    AHASH.get_or_init(|| {
        ahash::random_state::set_random_source(OfThread)
            .expect("no map of ahash exists before the first run");
    });
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let running = thread.spawn_scoped(scope, move || {
            seed_thread(seed);
            run()
        });
        running.expect("the system starts a thread").join()
    })
}

/// Source of seeds for the maps of `ahash`.
struct OfThread;

impl ahash::random_state::RandomSource for OfThread {
    fn gen_hasher_seed(&self) -> usize {
        let mut bytes = [0; size_of::<usize>()];
        // SAFETY: the buffer has this length.
        unsafe { getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        usize::from_ne_bytes(bytes)
    }
}

/// Runs a future on virtual time, in a thread whose randomness this seed determines. Tasks of the
/// future need not be `Send`.
///
/// # Panics
/// When the future panics.
pub fn on_virtual_time<T: Send>(seed: u64, run: impl AsyncFnOnce() -> T + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("the system has what a runtime needs");
        LocalSet::new().block_on(&runtime, run())
    };
    in_own_thread(seed, run).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// One step of the generator SplitMix64.
fn next(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state, mixed ^ (mixed >> 31))
}

/// Replaces the C library's function of this name.
///
/// # Safety
/// `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let seeded = STATE.try_with(Cell::get).ok().flatten();
    let Some(mut state) = seeded else {
        // SAFETY: the arguments are those of the system call, and the caller vouches for the
        // buffer.
        let count = unsafe { syscall(GETRANDOM, buffer, length, flags) };
        return isize::try_from(count).unwrap_or(-1);
    };
    // SAFETY: the caller vouches for the buffer.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let number;
        (state, number) = next(state);
        chunk.copy_from_slice(&number.to_ne_bytes()[..chunk.len()]);
    }
    STATE.with(|cell| cell.set(Some(state)));
    length.try_into().unwrap_or(isize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn order(seed: u64) -> Vec<u32> {
        in_own_thread(seed, || {
            (0..100).collect::<HashSet<u32>>().into_iter().collect()
        })
        .expect("it does not panic")
    }

    #[test]
    fn seed_determines_the_order_of_hash_maps() {
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn thread_without_a_seed_gets_the_systems_numbers() {
        let numbers = || {
            let mut bytes = [0_u8; 16];
            // SAFETY: the buffer has this length.
            let count = unsafe { getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
            assert_eq!(count, 16);
            bytes
        };
        assert_ne!(numbers(), numbers());
    }
}
