// Who may delete a condemned object, in SQL. A claim belongs to a collector's session with the database, which holds an advisory lock
// of its own: the claim stands while the lock does, and for the bound of a delete after someone has seen that it is gone.

/** First key of the advisory locks. The second is 0 for the one collector that runs, -1 for the one scrub, or the number of a session. */
export const lockClass = 1_868_722_810;

/** How long a delete may be under way after its collector's session has ended. */
export const deleteBoundMs = 20_000;
/** A collector begins no delete when the database confirmed its session longer ago; what is left of the bound is for the delete. */
export const confirmedWithinMs = 5_000;

/** Nobody may be deleting the object. */
export const unclaimed = `(claimed_by is null or orphaned_at < clock_timestamp() - interval '${deleteBoundMs} milliseconds')`;

/** Starts the bound of claims whose session has ended. */
export const markOrphans = `
  update condemned_objects set orphaned_at = clock_timestamp()
  where claimed_by is not null and orphaned_at is null and not exists (
    select from pg_locks
    where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
      and classid::bigint = ${lockClass} and objid::bigint = claimed_by and objsubid = 2 and granted
  )`;

/**
 * `operation/attempt` of the attempts that may still commit. A lease that has run out counts until it is given back or taken over: only
 * a change of the row makes the commits fail that have looked at it before.
 */
export const registeredWriters = `
  select coalesce(array_agg(operation_id || '/' || attempt), '{}') from jobs where lease_until is not null`;
