// The command line as a person meets it: what it prints where, and its exit status.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { expect } from 'chai';

const main = path.resolve(import.meta.dirname, '../../../src/main.ts');

interface Ended {
  status: number | null;
  out: string;
  err: string;
}

function obraz(...words: string[]): Promise<Ended> {
  const child = spawn(process.execPath, [main, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended: Ended = { status: null, out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (ended.out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (ended.err += text));
  return new Promise((resolve) => child.once('close', (status) => resolve({ ...ended, status })));
}

describe('command line', () => {
  it('lists every command, for nothing, help, --help and -h alike', async () => {
    const [bare, ...others] = await Promise.all([obraz(), obraz('help'), obraz('--help'), obraz('-h')]);
    for (const name of [
      'serve',
      'gc',
      'scrub',
      'quota list',
      'quota set',
      'catalog list',
      'catalog import',
      'migrate',
      'token',
      'help',
    ])
      expect(bare.out).to.match(new RegExp(`^ {2}${name}\\b`, 'm'));
    for (const ended of [bare, ...others]) expect(ended).to.deep.equal({ status: 0, out: bare.out, err: '' });
  });

  it('tells more of one command, with its options, asked either way', async () => {
    const [helped, asked, short] = await Promise.all([
      obraz('help', 'gc'),
      obraz('gc', '--help'),
      obraz('gc', '--dry-run', '-h'),
    ]);
    expect(helped.out)
      .to.match(/^Usage: obraz gc \[options\]\n/)
      .and.to.include('--dry-run');
    for (const ended of [helped, asked, short]) expect(ended).to.deep.equal({ status: 0, out: helped.out, err: '' });
  });

  const misuses: [words: string[], says: string, advises: string][] = [
    [['collect'], 'unknown command "collect"', 'obraz help'],
    [['help', 'collect'], 'unknown command "collect"', 'obraz help'],
    [['--dry-run', 'gc'], 'unknown command "--dry-run"', 'obraz help'],
    [['gc', '--dry'], `gc: Unknown option '--dry'`, 'obraz help gc'],
    [['gc', '--dry-run=yes'], `gc: Option '--dry-run' does not take an argument`, 'obraz help gc'],
    [['migrate', '--dry-run'], `migrate: Unknown option '--dry-run'`, 'obraz help migrate'],
    [['gc', 'now'], 'gc: "now" is one word too many', 'obraz help gc'],
  ];
  for (const [words, says, advises] of misuses)
    it(`refuses "${words.join(' ')}" with status 2 and a hint, and prints nothing else`, async () => {
      expect(await obraz(...words)).to.deep.equal({ status: 2, out: '', err: `obraz: ${says}\nTry: ${advises}\n` });
    });
});
