//! Connections side by side, each in a task of its own.

use anyhow::ensure;
use aquifer_runtime::tasks::TaskGroup;
use tokio::sync::mpsc;

/// Runs all of them; gives what they made, or the first failure, on which the others are ended.
pub(super) async fn all<T: Send + 'static>(
    tasks: &TaskGroup,
    name: &'static str,
    jobs: Vec<impl Future<Output = anyhow::Result<T>> + Send + 'static>,
) -> anyhow::Result<Vec<T>> {
    let count = jobs.len();
    let (tell, mut told) = mpsc::channel(count.max(1));
    let end = tasks.cancelled().child_token();
    let _ends_with_this = end.clone().drop_guard();
    for job in jobs {
        let (tell, end) = (tell.clone(), end.clone());
        tasks.spawn(name, async move {
            tokio::select! {
                biased;
                // Nobody listens any more once another has failed.
                outcome = job => drop(tell.send(outcome).await),
                () = end.cancelled() => {}
            }
        });
    }
    drop(tell);
    let mut made = Vec::with_capacity(count);
    while let Some(outcome) = told.recv().await {
        made.push(outcome?);
    }
    ensure!(made.len() == count, "stopped");
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_first_failure_ends_all() {
        let tasks = TaskGroup::new();
        let job = |number: u32| async move {
            if number == 2 {
                anyhow::bail!("no");
            }
            std::future::pending::<anyhow::Result<u32>>().await
        };
        let error = all(&tasks, "job", (0..4).map(job).collect()).await.unwrap_err();
        assert_eq!(error.to_string(), "no");
        let made = all(&tasks, "job", (0..4).map(|number| async move { Ok(number) }).collect()).await;
        assert_eq!(made.unwrap().iter().sum::<u32>(), 6);
        tasks.stop(Duration::from_secs(10)).await.unwrap();
    }
}
