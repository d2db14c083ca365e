//! The binary: see [`aquifer::cli`].

fn main() -> std::process::ExitCode {
    aquifer::cli::main()
}
