import { expect } from 'chai';
import { Client } from 'pg';
import { isTransientDatabaseError } from '../../../src/db/database-error.ts';

const withCode = (code: string, more: object = {}) => Object.assign(new Error('x'), { code, ...more });

describe('isTransientDatabaseError', () => {
  for (const [code, meaning] of Object.entries({
    '08006': 'connection_failure',
    '40001': 'serialization_failure',
    '40P01': 'deadlock_detected',
    '53300': 'too_many_connections',
    '53100': 'disk_full',
    '57P01': 'admin_shutdown',
    '57P03': 'cannot_connect_now',
    '57014': 'query_canceled, as by statement_timeout',
    '55P03': 'lock_not_available',
  })) {
    it(`is true for ${code} ${meaning}`, () => expect(isTransientDatabaseError(withCode(code))).to.equal(true));
  }

  for (const [code, meaning] of Object.entries({
    '23505': 'unique_violation',
    '42P01': 'undefined_table',
    '22P02': 'invalid_text_representation',
    '55000': 'object_not_in_prerequisite_state',
  })) {
    it(`is false for ${code} ${meaning}`, () => expect(isTransientDatabaseError(withCode(code))).to.equal(false));
  }

  it('is true for a socket that is gone or not there, and false for a file', () => {
    expect(isTransientDatabaseError(withCode('ENOENT', { syscall: 'connect' }))).to.equal(true);
    expect(isTransientDatabaseError(withCode('ECONNRESET', { syscall: 'read' }))).to.equal(true);
    expect(isTransientDatabaseError(withCode('ENOENT', { syscall: 'open' }))).to.equal(false);
    expect(isTransientDatabaseError(new Error('x'))).to.equal(false);
    expect(isTransientDatabaseError('57P01')).to.equal(false);
  });

  it('is true for what node-postgres says of a server that is not there', async () => {
    const client = new Client({ connectionString: 'postgres://nobody@127.0.0.1:1/none' });
    const error = await client.connect().catch((reason: unknown) => reason);
    expect(isTransientDatabaseError(error)).to.equal(true);
  });
});
