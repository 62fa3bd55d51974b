// Work on the database that has to come to an end although the database may be away for a while.
import { setTimeout as delay } from 'node:timers/promises';
import { isTransientDatabaseError } from './database-error.ts';

const pauseMs = 200;

/** Tries again while what fails is the database's absence and `goesOn`: an attempt whose answer was lost may have been made. @throws the last error */
export async function throughOutages<Answer>(work: () => Promise<Answer>, goesOn: () => boolean): Promise<Answer> {
  while (true) {
    try {
      return await work();
    } catch (error) {
      if (!isTransientDatabaseError(error) || !goesOn()) throw error;
      await delay(pauseMs);
    }
  }
}
