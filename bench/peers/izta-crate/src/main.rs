// One run of the Rust crate izta 0.1.2: izta-crate-bench WORK OPTIONS prints its result as a line of JSON.
// Its columns are those that the crate's own queries name (https://docs.rs/izta/0.1.2); filled in one statement,
// since it has no bulk enqueue.
#[macro_use]
extern crate serde;

use izta::job::Job;
use izta::serde_json::{from_str, Value};
use izta::{process_jobs, runner::Runner};
use postgres::{Connection, TlsMode};
use std::time::{Duration, Instant};

#[derive(Serialize, Deserialize)]
struct Note {
    n: i64,
}

impl Job for Note {
    type R = ();
    type E = ();
    const UUID: &'static str = "74f3a15b-75c0-4889-9546-63b02ff304e4";
    const MAX_ATTEMPTS: usize = 3;
    fn run(&self) -> Result<(), ()> {
        Ok(())
    }
}

fn main() {
    let options: Value = from_str(&std::env::args().nth(2).unwrap()).unwrap();
    let url = options["url"].as_str().unwrap();
    let tasks = options["tasks"].as_i64().unwrap();
    let db = Connection::connect(url, TlsMode::None).unwrap();
    let number = |text: &str| -> f64 { db.query(text, &[]).unwrap().get(0).get(0) };
    let wal = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
    db.batch_execute(
        "create table tasks (id bigserial primary key, job_uuid text, status text, result text, run_at bigint,
           queue text, attempts integer, max_attempts integer, created_at bigint, updated_at bigint, cron text,
           \"interval\" bigint, job text);
         create index on tasks (status, id); checkpoint",
    )
    .unwrap();
    let wal_start = number(wal);
    let filling = Instant::now();
    db.execute(
        "insert into tasks (job_uuid, status, attempts, max_attempts, created_at, updated_at, cron, job)
         select $1, 'pending', 0, 3, 0, 0, 'null', '{\"n\":' || n || '}' from generate_series(1, $2::bigint) n",
        &[&Note::UUID, &tasks],
    )
    .unwrap();
    let filled = filling.elapsed().as_secs_f64();
    db.batch_execute("vacuum (analyze)").unwrap();
    let runner = Runner::new(process_jobs!(Note), url, "tasks", vec![]);
    let cpu_start = cpu_micros();
    let started = Instant::now();
    runner.start();
    while number("select count(*)::float8 from tasks where status <> 'finished'") > 0.0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let drained = started.elapsed().as_secs_f64();
    let total = tasks as f64;
    println!(
        "{{\"perSecond\":{},\"enqueuedPerSecond\":{},\"cpuMicrosPerTask\":{},\"walBytesPerTask\":{}}}",
        total / drained,
        total / filled,
        (cpu_micros() - cpu_start) / total,
        (number(wal) - wal_start) / total
    );
}

/// User and system time of this process, in the clock ticks of /proc (100 a second).
fn cpu_micros() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) * 10_000.0
}
