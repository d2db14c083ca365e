//! temporary
use aquifer::config::{Config, Sources};
fn main() {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::new("info,aquifer=debug")).init();
    let sets: Vec<String> = std::env::args().skip(1).collect();
    let config = Config::load(Sources { sets, ..Sources::default() }).unwrap_or_else(|e| { eprintln!("{e}"); std::process::exit(2) });
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    rt.block_on(async move {
        let t = std::time::Instant::now();
        let broker = aquifer::broker::Broker::start(config, aquifer_runtime::World::system()).await.unwrap_or_else(|e| { eprintln!("error: {e}"); std::process::exit(1) });
        eprintln!("ready after {:?} on {:?} admin {:?}", t.elapsed(), broker.addresses(), broker.admin_address());
        tokio::signal::ctrl_c().await.unwrap();
        broker.stop().await.unwrap();
    });
}
