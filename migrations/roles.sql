-- Makes the group roles izta_enqueue, izta_run and izta_read where they are missing, and grants each what it needs.
--
-- Sent by `izta migrate --roles`; once the roles may use the schema, every later migration sends it again, so that they
-- follow what it adds. Only ever grants, so an older version takes nothing away from a newer one. It may also be run
-- by hand: by the owner of izta's tables, who needs createrole only while a role is missing. The roles cannot log in;
-- log-ins become members. Roles belong to the server, their names begin with the schema's name.
--
-- The functions are the way to write: they run with the rights of the tables' owner, and check what they are given.
--
--   enqueue  makes tasks, marks queues as woken, and learns who holds a key. No payload, result or error.
--   run      runs, settles, changes, cancels, retries and prunes tasks; queues, schedules and alarms; may enqueue.
--            Changes no definition: neither tables nor functions nor the record of migrations.
--   read     reads everything, payloads and results included, and changes nothing.
--
-- Locks: none on the tables.

do $roles$
declare
  v_schema text;
  v_role text;
  v_grant text;
  v_function regprocedure;
  v_work text;
begin
  -- Whoever sends this may do much: nothing here is looked up where others may create objects.
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  perform pg_advisory_xact_lock(hashtext('roles of background jobs'));
  -- Else the grants would be no more than warnings.
  if not (select pg_has_role(c.relowner, 'usage') from pg_class c where c.oid = 'izta.migration'::regclass) then
    raise 'Only the owner of the tables of izta may grant what the roles need: migrate as that user.'
      using errcode = 'insufficient_privilege';
  end if;
  select n.nspname::text into v_schema from pg_namespace n where n.oid = 'izta'::regnamespace;

  foreach v_role in array array[v_schema || '_enqueue', v_schema || '_run', v_schema || '_read'] loop
    if octet_length(v_role) > 63 then
      raise 'The name of the role % is longer than PostgreSQL allows: take a schema of at most 55 bytes.', v_role
        using errcode = 'name_too_long';
    end if;
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I nologin', v_role);
    end if;
    if not has_schema_privilege(v_role, 'izta'::regnamespace, 'usage') then
      execute format('grant usage on schema izta to %I', v_role);
    end if;
  end loop;

  -- Of every version, since old and new code work side by side. A function with its owner's rights checks its caller's
  -- values; the functions that are parts of these are nobody's.
  for v_function, v_work in
    select p.oid::regprocedure, w.work
    from pg_proc p
    cross join unnest('{enqueue,run,read}'::text[]) as w(work)
    where p.pronamespace = 'izta'::regnamespace and case
      when p.proname = 'now' then true
      when w.work = 'enqueue' then p.prosecdef and p.proname ~ '^(enqueue|enqueue_task|key_holder|wake_queue)_[0-9]+$'
      when p.proname = 'epoch_ms' or p.proname ~ '^(status|ready_queues)_[0-9]+$' then true
      else w.work = 'run' and p.prosecdef
    end
  loop
    execute format('grant execute on function %s to %I', v_function, v_schema || '_' || v_work);
  end loop;

  foreach v_grant in array array[
    -- Whether a newer izta has been here.
    'select (id, name, breaking) on izta.migration to %1$I',
    'select on izta.task, izta.history, izta.queue, izta.schedule, izta.app, izta.wake, izta.migration to %2$I, %3$I']
  loop
    execute 'grant ' || format(v_grant, v_schema || '_enqueue', v_schema || '_run', v_schema || '_read');
  end loop;

  foreach v_grant in array array[
    'insert, update, delete on izta.schedule',
    'insert, update on izta.app',
    'insert, delete on izta.task',
    'insert (name, woken_at), update (woken_at) on izta.queue']
  loop
    execute 'grant ' || v_grant || format(' to %I', v_schema || '_run');
  end loop;
end
$roles$
