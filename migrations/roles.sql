-- Makes the group roles izta_enqueue, izta_run and izta_read where they are missing, and grants each what it needs.
--
-- Sent by `izta migrate --roles`; once the roles may use the schema, every later migration sends it again, so that they
-- follow what it adds. Only ever grants, so an older version takes nothing away from a newer one. It may also be run
-- by hand: by the owner of izta's tables, who needs createrole only while a role is missing. The roles cannot log in;
-- log-ins become members. Roles belong to the server, their names begin with the schema's name.
--
--   enqueue  makes tasks by the function, which runs with its owner's rights: no row can be changed past its rules.
--            Reads who holds a key and whether a queue is paused, marks queues as woken. No payload, result or error.
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

  -- A function may be executed by everybody unless this is taken back.
  revoke execute on all functions in schema izta from public;
  foreach v_grant in array array[
    -- Who holds a key; what became of the queue; whether a newer izta has been here.
    'select (id, job, key, key_until, key_freed, lease, run_at, attempt) on izta.task to %1$I',
    'select (name, paused, woken_at), insert (name, woken_at), update (woken_at) on izta.queue to %1$I',
    'select (id, name, breaking) on izta.migration to %1$I',
    'execute on function izta.now() to %1$I, %2$I, %3$I',

    'select, insert, update, delete on izta.task, izta.schedule to %2$I',
    -- The right to update one column is what locking a row needs.
    'select, insert, delete, update (expires_at) on izta.history to %2$I',
    'select, insert, update on izta.queue, izta.app to %2$I',
    'select, update on izta.wake to %2$I',
    'select on izta.migration to %2$I',

    'select on izta.task, izta.history, izta.queue, izta.schedule, izta.app, izta.wake, izta.migration to %3$I']
  loop
    execute 'grant ' || format(v_grant, v_schema || '_enqueue', v_schema || '_run', v_schema || '_read');
  end loop;

  -- Of every version, since old and new code work side by side.
  for v_function in
    select p.oid from pg_proc p
    where p.pronamespace = 'izta'::regnamespace and p.proname ~ '^(enqueue|turn|unmake_ended)_[0-9]+$'
  loop
    execute format('grant execute on function %s to %I', v_function, v_schema || '_run');
  end loop;
  for v_function in
    select p.oid from pg_proc p
    where p.pronamespace = 'izta'::regnamespace and p.proname ~ '^enqueue_[0-9]+$'
  loop
    execute format('grant execute on function %s to %I', v_function, v_schema || '_enqueue');
    -- It has a search_path of its own and builds no SQL, so its caller gains nothing but the enqueue.
    if not (select p.prosecdef from pg_proc p where p.oid = v_function) then
      execute format('alter function %s security definer', v_function);
    end if;
  end loop;
end
$roles$
