// The invariants, each as a query whose rows are what breaks it; read by a connection of its own.

export interface Check {
  readonly rule: string
  /** `always`: in every snapshot; `end`: when everything has drained. */
  readonly when: 'always' | 'end'
  /** Shows what breaks the rule, one text a row. */
  readonly text: string
}

/** Of runs whose lease was valid when they began: how long nobody else may run the task. */
const alone = `
select format('task %s ran twice at once: run %s from %s, and run %s from %s, before the lease ended at %s',
  a.task, a.id, a.started_at, b.id, b.started_at, a.lease_until) as what
from ledger.run a
join ledger.run b on b.task = a.task and b.id <> a.id and b.started_at >= a.started_at
where b.started_at < a.lease_until and (a.ended_at is null or a.ended_at > b.started_at)`

/** How a task of each job may end, beside a third loss. */
const fates = `
select format('task %s of job %s has %s after %s attempts: %s', h.id, h.job, h.status, h.attempt, ledger.last_code(h.errors))
  as what
from izta.history h
left join ledger.accepted a on a.task = h.id
where ledger.last_code(h.errors) is distinct from 'lost'
  and not (h.status = 'cancelled' and coalesce(a.cancelled, false))
  and not exists (select from unnest(h.errors) e where ledger.code(e) = 'timeout')
  and case
    when h.job = 'unstorable' then h.status <> 'failed' or h.attempt <> 3
      or exists (select from unnest(h.errors) e where ledger.code(e) <> 'result-refused')
    when h.job = 'parent' and (h.payload->>'failsAlways')::boolean then h.status <> 'failed' or h.attempt <> 3
    when h.job = 'parent' then h.status <> 'finished' or h.attempt <> 1 + (h.payload->>'failsFirst')::boolean::integer
    when h.job = 'flaky' then h.status <> 'finished' or h.attempt <> 1 + (h.payload->>'failures')::integer
    when h.job = 'odd' then h.status <> 'finished' or h.attempt <> 2
    when h.job = 'poison' then true
    else h.status <> 'finished' or h.attempt <> 1
  end`

export const checks: readonly Check[] = [
  {
    rule: 'an accepted task is in exactly one place',
    when: 'always',
    text: `
select format('task %s of job %s is in %s places', a.task, a.job, p.places) as what
from ledger.accepted a
cross join lateral (
  select (select count(*) from izta.task t where t.id = a.task) + (select count(*) from izta.history h where h.id = a.task)
    as places) p
where p.places <> 1`,
  },
  {
    rule: 'no task is made twice',
    when: 'always',
    text: `select format('task %s was inserted %s times', task, count(*)) as what from ledger.made group by task having count(*) > 1`,
  },
  {
    rule: 'no task is settled twice',
    when: 'always',
    text: `select format('task %s left the hot table %s times', task, count(*)) as what from ledger.ended group by task having count(*) > 1`,
  },
  {
    rule: 'the hot table holds what was made and has not ended, the history what has',
    when: 'always',
    text: `
select format('hot table: %s, made and not ended: %s; history: %s, ended: %s', hot, made - ended, past, ended) as what
from (select (select count(*) from izta.task) as hot, (select count(*) from izta.history) as past,
  (select count(*) from ledger.made) as made, (select count(*) from ledger.ended) as ended) counts
where hot <> made - ended or past <> ended`,
  },
  { rule: 'a run whose lease is valid is alone', when: 'always', text: alone },
  {
    rule: 'a lease lasts as long as the task may run',
    when: 'always',
    text: `
select format('task %s may run until %s, its lease ends at %s', task, may_run_until, lease_until) as what
from ledger.run
where lease_until < may_run_until`,
  },
  {
    rule: 'a lost task runs alone in its process, or with others if all were lost once',
    when: 'always',
    text: `
select format('process %s ran task %s with %s losses from %s and task %s from %s', a.process, a.task, a.losses, a.started_at,
  b.task, b.started_at) as what
from ledger.run a
join ledger.run b on b.process = a.process and b.id <> a.id
where a.losses > 0 and not (a.losses = 1 and b.losses = 1) and b.started_at < coalesce(a.ended_at, 'infinity')
  and a.started_at < coalesce(b.ended_at, case when b.started_at < a.started_at then 'infinity' else a.started_at end)`,
  },
  {
    rule: 'a claim is taken over only after its lease has ended, and counts one loss',
    when: 'always',
    text: `
select format('task %s was claimed at %s, its lease lasted until %s; losses %s, then %s', task, claimed_at, lease_until,
  losses_before, losses_after) as what
from ledger.takeover
where claimed_at < lease_until or losses_after <> losses_before + 1`,
  },
  {
    rule: 'a run is followed by another only after an attempt, a loss or a release was counted',
    when: 'always',
    text: `
select format('task %s: %s runs have attempt %s and losses %s: %s', task, count(*), attempt, losses,
  string_agg(coalesce(outcome, 'open') || ' ' || started_at::text, ', ')) as what
from ledger.run
where outcome is null or outcome not in ('deadline', 'stopping')
group by task, attempt, losses
having count(*) > 1`,
  },
  {
    rule: 'the stored result is that of the run that held the lease',
    when: 'always',
    text: `
select format('task %s: attempt %s with %s losses has the result of %s', h.id, h.attempt, h.losses, h.result) as what
from izta.history h
where h.status = 'finished' and h.payload is not null and h.job <> 'odd' and not exists (
  select from ledger.run r
  where r.id::text = h.result #>> '{}' and r.task = h.id and r.attempt = h.attempt and r.losses = h.losses
    and r.outcome = 'ok')`,
  },
  {
    rule: 'a failure is recorded only if its run still held the lease',
    when: 'always',
    text: `
select format('task %s: attempt %s has failed by run %s, which had lost its lease', e.id, r.attempt, r.id) as what
from (
  select t.id, unnest(t.errors) as entry from izta.task t where t.job in ('flaky', 'parent')
  union all
  select h.id, unnest(h.errors) from izta.history h where h.job in ('flaky', 'parent')) e
join ledger.run r on r.id = substring(e.entry::text from 'run ([0-9a-f-]{36})')::uuid
where r.attempt <> ledger.attempt(e.entry) or exists (
  select from ledger.takeover t where t.task = r.task and t.attempt = r.attempt - 1 and t.losses_before = r.losses)`,
  },
  {
    rule: 'each counted attempt has its run',
    when: 'always',
    text: `
select format('task %s has %s attempts, without a run of attempt %s', h.id, h.attempt, n) as what
from izta.history h
cross join lateral generate_series(1, h.attempt) n
where not exists (select from ledger.run r where r.task = h.id and r.attempt = n)
  and not exists (select from unnest(h.errors) e where ledger.code(e) = 'timeout' and ledger.attempt(e) = n)`,
  },
  {
    rule: 'children exist if and only if their parent has finished',
    when: 'always',
    text: `
select format('parent %s has %s and %s children of %s', p.id, p.status, c.n, p.children) as what
from (
  select id, status, (payload->>'children')::integer as children from izta.history where job = 'parent'
  union all
  select id, 'not ended', (payload->>'children')::integer from izta.task where job = 'parent') p
cross join lateral (select count(*) as n from ledger.made m where m.parent = p.id) c
where c.n <> case when p.status = 'finished' then p.children else 0 end`,
  },
  {
    rule: 'each slot makes exactly one task, and none is left out',
    when: 'always',
    text: `
select format('schedule %s: slot %s follows %s', schedule, slot, before) as what
from (select schedule, slot, lag(slot) over (partition by schedule order by slot, n) as before
  from ledger.made where slot is not null) s
where slot - before <> interval '1 minute'`,
  },
  {
    rule: 'a third loss, and nothing less, fails a task as lost',
    when: 'always',
    text: `
select format('task %s of job %s has %s losses and %s', id, job, losses, status) as what
from izta.history
where (ledger.last_code(errors) = 'lost' and losses < 3)
  or (job = 'poison' and (status <> 'failed' or losses < 3))
union all
select format('task %s ran with %s losses', task, losses) from ledger.run where losses > 2`,
  },
  {
    rule: 'losses are those of the ledger',
    when: 'end',
    text: `
select format('task %s has %s losses, %s takeovers, and %s runs that ended in nothing', h.id, h.losses, l.takeovers, r.open) as what
from izta.history h
cross join lateral (select count(*) as takeovers from ledger.takeover t where t.task = h.id) l
cross join lateral (
  select count(*) filter (where outcome is null or outcome not in ('deadline', 'stopping')) - count(distinct attempt)
    as open from ledger.run where task = h.id) r
where h.losses <> l.takeovers or r.open > h.losses`,
  },
  {
    rule: 'no slot that is due is still to be made',
    when: 'end',
    text: `
select format('schedule %s has its slots until %s, but not that of %s', name, made_until, slot) as what
from (
  -- Each has one slot a minute, at the second of its name.
  select s.name, s.made_until, n.second * interval '1 second' + to_timestamp(
    floor((extract(epoch from s.made_until) - n.second) / 60) * 60 + 60) as slot
  from izta.schedule s cross join lateral (select substring(s.name from '\\d+')::integer as second) n) s
where slot < izta.now() - interval '5 seconds'
union all
select 'no schedule is there' where not exists (select from izta.schedule)`,
  },
  { rule: 'each job ends as it must', when: 'end', text: fates },
  {
    rule: 'what was due has drained',
    when: 'end',
    text: `
select format('task %s of job %s is left: attempt %s, losses %s, claims %s, due %s, lease %s', id, job, attempt, losses, claims,
  due_at, lease) as what
from izta.task where due_at < izta.now() - interval '5 seconds' or schedule is null`,
  },
]

/** Leases that ended with the runners undisturbed: how long until somebody took the task over. */
export const recoveries = `
select
  count(*)::integer as count,
  coalesce(max(s.seconds), 0)::float as max,
  coalesce(percentile_cont(0.5) within group (order by s.seconds), 0)::float as p50,
  coalesce(percentile_cont(0.99) within group (order by s.seconds), 0)::float as p99
from (
  select extract(epoch from claimed_at - lease_until) as seconds from ledger.takeover
  where lease_until >= $1) s`

export const figures = `
select
  (select count(*) from ledger.accepted)::integer as accepted,
  (select count(*) from ledger.made)::integer as made,
  (select count(*) from ledger.made where parent is not null)::integer as children,
  (select count(*) from ledger.made where slot is not null)::integer as slots,
  (select count(*) from izta.history where status = 'finished')::integer as finished,
  (select count(*) from izta.history where status = 'failed')::integer as failed,
  (select count(*) from izta.history where status = 'cancelled')::integer as cancelled,
  (select count(*) from izta.history where ledger.last_code(errors) = 'lost' and job <> 'poison')::integer
    as lost_innocents,
  (select count(*) from ledger.run)::integer as runs,
  (select count(*) from ledger.takeover)::integer as losses,
  (select count(*) from ledger.run a join ledger.run b on b.task = a.task and b.id <> a.id and b.started_at >= a.started_at
    where a.ended_at > b.started_at)::integer as overlaps,
  (select count(*) from ledger.run a where a.outcome = 'ok' and exists (
    select from ledger.run b where b.task = a.task and b.started_at > a.ended_at and b.losses > a.losses))::integer as reruns,
  (select count(*) from ledger.ended where lease is not null and lease_until < at)::integer as late_settles`
