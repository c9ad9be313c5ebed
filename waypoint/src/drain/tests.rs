use super::*;
use tokio::sync::oneshot;

#[tokio::test]
async fn a_drain_waits_for_running_tasks_and_says_that_all_ended() {
    let (drain, tasks, closing) = Drain::new();
    let (ended, wait) = oneshot::channel();
    tasks.spawn(async move {
        closing.closing().await;
        ended.send(()).expect("the test waits");
    });
    assert!(drain.drain(Duration::from_secs(10)).await);
    assert_eq!(wait.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_outlives_the_limit_is_cut_and_the_drain_says_so() {
    let (drain, tasks, closing) = Drain::new();
    let (cut, wait) = oneshot::channel();
    tasks.spawn(async move {
        closing.cut().await;
        cut.send(()).expect("the test waits");
    });
    assert!(!drain.drain(Duration::from_secs(10)).await);
    assert_eq!(wait.await, Ok(()));
}

#[tokio::test]
async fn a_child_closes_alone_and_with_the_whole() {
    let (drain, _tasks, closing) = Drain::new();
    let (first, second) = (closing.child(), closing.child());
    first.close();
    assert!(first.is_closing() && !second.is_closing() && !closing.is_closing());
    drain.close();
    assert!(second.is_closing());
}

#[tokio::test(start_paused = true)]
async fn a_closed_child_is_cut_at_its_own_limit() {
    let (_drain, _tasks, closing) = Drain::new();
    let child = closing.child();
    child.close_within(Duration::from_secs(3)).await;
    child.cut().await;
    assert!(!closing.is_closing());
}
