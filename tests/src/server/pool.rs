//! Workers, and the queue before them.

use crate::random::Random;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// Workers that take requests in the order of their arrival.
#[derive(Debug)]
pub(super) struct Pool {
    /// Nanoseconds.
    service: AtomicU64,
    /// What varies the service time; none: each request takes the same.
    variation: Mutex<Option<Random>>,
    /// Until when nothing is finished.
    stalled_until: Mutex<Instant>,
    /// A permit for each idle worker, handed out first come, first served.
    idle: Semaphore,
    /// Until when each idle worker was busy.
    busy_until: Mutex<VecDeque<Instant>>,
    waiting: AtomicU64,
    served: AtomicU64,
    /// Nanoseconds.
    queueing: AtomicU64,
}

impl Pool {
    pub(super) fn new(workers: usize, service: Duration) -> Pool {
        Pool {
            service: AtomicU64::new(service.as_nanos() as u64),
            variation: Mutex::new(None),
            stalled_until: Mutex::new(Instant::now()),
            idle: Semaphore::new(workers),
            busy_until: Mutex::new(VecDeque::from(vec![Instant::now(); workers])),
            waiting: AtomicU64::new(0),
            served: AtomicU64::new(0),
            queueing: AtomicU64::new(0),
        }
    }

    /// Waits for a worker and for its work. Returns for how long the request waited, and its number.
    pub(super) async fn work(&self) -> (Duration, u64) {
        let arrived = Instant::now();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let worker = self.idle.acquire().await.expect("is never closed");
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        // A worker with a queue begins with the next request when it is done, however late its timer told so: else
        // the capacity would depend on the timers' precision.
        let free = self.busy_until.lock().expect("nothing panics holding it").pop_front();
        let begun = free.expect("a permit stands for an idle worker").max(arrived);
        let queueing = begun - arrived;
        self.queueing.store(queueing.as_nanos() as u64, Ordering::Relaxed);
        let mut end = begun + self.draw();
        sleep_until(end).await;
        // A stall holds up what is under way as well.
        while let Some(resumed) = self.stalled() {
            end = resumed;
            sleep_until(end).await;
        }
        self.busy_until.lock().expect("nothing panics holding it").push_back(end);
        drop(worker);
        (queueing, self.served.fetch_add(1, Ordering::Relaxed))
    }

    /// From the next request on, `service` is the service time.
    pub(super) fn set_service(&self, service: Duration) {
        self.service.store(service.as_nanos() as u64, Ordering::Relaxed);
    }

    /// From the next request on, service times are exponential, with the service time as their mean.
    pub(super) fn vary(&self, seed: u64) {
        *self.variation.lock().expect("nothing panics holding it") = Some(Random::new(seed));
    }

    /// Finishes nothing until `resumed`.
    pub(super) fn stall(&self, resumed: Instant) {
        *self.stalled_until.lock().expect("nothing panics holding it") = resumed;
    }

    /// One request's service time.
    fn draw(&self) -> Duration {
        let mean = Duration::from_nanos(self.service.load(Ordering::Relaxed));
        match &mut *self.variation.lock().expect("nothing panics holding it") {
            Some(random) => mean.mul_f64(random.exponential()),
            None => mean,
        }
    }

    /// When the stall ends; none where there is none.
    fn stalled(&self) -> Option<Instant> {
        let resumed = *self.stalled_until.lock().expect("nothing panics holding it");
        (resumed > Instant::now()).then_some(resumed)
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    pub(super) fn queueing(&self) -> Duration {
        Duration::from_nanos(self.queueing.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn works_in_order_at_its_capacity() {
        let pool = Arc::new(Pool::new(2, Duration::from_millis(10)));
        let start = Instant::now();
        let mut requests = tokio::task::JoinSet::new();
        for order in 0..6 {
            let pool = pool.clone();
            requests.spawn(async move {
                let (queueing, number) = pool.work().await;
                (order, number, queueing.as_millis(), start.elapsed().as_millis())
            });
        }
        let mut done = requests.join_all().await;
        done.sort_unstable();
        let expected =
            [(0, 0, 0, 10), (1, 1, 0, 10), (2, 2, 10, 20), (3, 3, 10, 20), (4, 4, 20, 30), (5, 5, 20, 30)];
        assert_eq!(done, expected);
        assert_eq!((pool.served(), pool.waiting()), (6, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_worker_does_not_save_up_time() {
        let pool = Pool::new(1, Duration::from_millis(10));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        assert_eq!(pool.work().await.0, Duration::ZERO);
        assert_eq!(start.elapsed(), Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_holds_up_what_is_under_way_and_costs_no_work() {
        let pool = Pool::new(1, Duration::from_millis(10));
        let start = Instant::now();
        pool.stall(start + Duration::from_millis(50));
        pool.work().await;
        assert_eq!(start.elapsed(), Duration::from_millis(50));
        pool.work().await;
        assert_eq!(start.elapsed(), Duration::from_millis(60));
    }

    #[tokio::test(start_paused = true)]
    async fn service_times_change_and_vary_about_their_mean() {
        let pool = Pool::new(1, Duration::from_millis(10));
        pool.set_service(Duration::from_millis(30));
        let start = Instant::now();
        pool.work().await;
        assert_eq!(start.elapsed(), Duration::from_millis(30));
        pool.vary(1);
        let draws: Vec<f64> = (0..10_000).map(|_| pool.draw().as_secs_f64()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean / 0.03 - 1.0).abs() < 0.05, "{mean}");
    }
}
