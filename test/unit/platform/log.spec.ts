import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import path from 'node:path';
import { expect } from 'chai';
import { createLog, maskSecrets } from '../../../src/platform/log.ts';

function memoryLog(level = 'info') {
  const lines: Record<string, unknown>[] = [];
  const log = createLog({
    level,
    destination: { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  });
  return { log, lines };
}

const token = `t1.9euelZqWnZ.${'Ab-_9'.repeat(17)}z`;

describe('The log', () => {
  it('writes one JSON line with time, level by name, fields and text', () => {
    const { log, lines } = memoryLog();
    log.info({ requestId: 'r1' }, 'hello');
    expect(lines).to.have.length(1);
    const { time, ...rest } = lines[0]!;
    expect(rest).to.deep.equal({ level: 'info', requestId: 'r1', msg: 'hello' });
    expect(new Date(String(time)).toISOString()).to.equal(time);
  });

  it('keeps quiet below its level', () => {
    const { log, lines } = memoryLog('warn');
    log.info('no');
    log.warn('yes');
    expect(lines.map(({ msg }) => msg)).to.deep.equal(['yes']);
  });

  it('cuts out fields that hold secrets, on the first level and one below', () => {
    const { log, lines } = memoryLog();
    log.info({ authorization: 'a', headers: { authorization: 'b', host: 'c' }, jwt: 'd', iamToken: 'e', tokens: 3 }, 'text');
    expect(lines[0]).to.include({ authorization: '[secret]', jwt: '[secret]', iamToken: '[secret]', tokens: 3 });
    expect(lines[0]!['headers']).to.deep.equal({ authorization: '[secret]', host: 'c' });
  });

  it('shows errors with type, stack, code and causes, without the fields that drivers add', () => {
    const { log, lines } = memoryLog();
    const cause = Object.assign(new TypeError(`cannot use ${token}`), { code: '23505', detail: 'Key (name)=(hidden)' });
    log.error({ err: new Error('outer', { cause }) }, 'failed');
    const { err } = lines[0] as { err: { type: string; stack: string; cause: Record<string, string> } };
    expect(err.type).to.equal('Error');
    expect(err.stack).to.include('log.spec.ts');
    expect(err.cause).to.include({ type: 'TypeError', message: 'cannot use [token]', code: '23505' });
    expect(JSON.stringify(lines)).to.not.include('hidden').and.to.not.include(token);
  });

  it('ends the chain of causes even when it is a ring', () => {
    const { log, lines } = memoryLog();
    const first = new Error('first');
    first.cause = new Error('second', { cause: first });
    log.error({ err: first }, 'failed');
    expect(JSON.stringify(lines).match(/"second"/g)).to.have.length.within(1, 10);
  });

  it('masks tokens, private keys, passwords and signed queries inside texts', () => {
    const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
    const cases: [string, string][] = [
      [`token ${token}, end`, 'token [token], end'],
      ['jwt eyJhbGciOiJQUzI1NiJ9.eyJpc3MiOiJhamUifQ.c2lnbmF0dXJl end', 'jwt [token] end'],
      ['authorization: Bearer abc.def', 'authorization: Bearer [secret]'],
      [`key ${pem} end`, 'key [private key]\n end'],
      ['postgres://obraz:pa55word@db:5432/obraz', 'postgres://[secret]@db:5432/obraz'],
      ['GET https://host/a.qcow2?X-Sig=abc&x=1#sha256=ff', 'GET https://host/a.qcow2?[query]#sha256=ff'],
      [`ticket nbd1.eyJraWQiOiJhIn0.${'Ab-_9'.repeat(17)}z!`, 'ticket [token]!'],
      ['http://host/t1.aaaa.bbbb.qcow2', 'http://host/[token].qcow2'],
      ['host.name.key-eyJhbGciOiJQUzI1NiJ9.eyJpc3MiOiJhamUifQ==.c2ln,t1.a.b', 'host.name.key-[token],[token]'],
      ['is it?at=HTTP://host/a?sig=1 or ?', 'is it?at=HTTP://host/a?[query] or ?'],
      ['a plain text, mail@example.com, what?', 'a plain text, mail@example.com, what?'],
      ['v1.2.3, t1.x, part1.a.b, ajt1.a.b', 'v1.2.3, t1.x, part1.a.b, ajt1.a.b'],
    ];
    for (const [text, masked] of cases) expect(maskSecrets(text)).to.equal(masked);
  });

  // What took time as the square of the length did would be half a minute here.
  it('masks whatever strangers make it read in a time that grows as the length does', function () {
    this.timeout(20_000);
    const rounds = {
      'eyJ-': 1_000,
      'http://': 1_000,
      't1.': 20,
      'nbd1.a': 20,
      'a.': 20,
      '://': 20,
      'Bearer ': 20,
      '-----BEGIN ': 20,
    };
    for (const [unit, times] of Object.entries(rounds)) {
      const text = unit.repeat(10_000 / unit.length);
      for (let time = 0; time < times; time += 1) maskSecrets(`${text}${time}`);
    }
  });

  it('goes to standard error alone, and loses nothing at an orderly exit', () => {
    const module = path.resolve(import.meta.dirname, '../../../src/platform/log.ts');
    const script = `import { createLog } from ${JSON.stringify(module)};
      const log = createLog({ level: 'info' });
      for (let line = 0; line < 5000; line += 1) log.info({ line }, 'text');
      process.exit(0);`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', maxBuffer: 1e8 });
    expect(child.stdout).to.equal('');
    const lines = child.stderr.trim().split('\n');
    expect(lines).to.have.length(5000);
    expect(JSON.parse(lines.at(-1)!)).to.include({ line: 4999, msg: 'text' });
  });
});
