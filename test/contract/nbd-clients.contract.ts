// What every writable NBD export must be to real clients: QEMU's tools and libnbd's. A file on which qemu-io does the same is the oracle.
import { expect } from 'chai';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomFrom, testSeed } from '../support/sample.ts';
import { answerOf, requireTool, run } from '../support/tools.ts';

const MiB = 1024 * 1024;

export interface WritableExport extends AsyncDisposable {
  /** For libnbd and QEMU. */
  readonly uri: string;
  /** A multiple of 1 MiB, 16 at least; all zeros at first. */
  readonly sizeBytes: number;
}

interface MapEntry {
  start: number;
  length: number;
  zero: boolean;
  data: boolean;
}

/** @param open a new export for each test. */
export function describeNbdClients(what: string, open: () => Promise<WritableExport>): void {
  describe(`Real NBD clients of ${what} (OBRAZ_TEST_SEED=${testSeed})`, () => {
    let disk: WritableExport;
    let directory: string;
    beforeEach(async () => {
      directory = await mkdtemp(path.join(tmpdir(), 'obraz-nbd-clients-'));
      disk = await open();
    });
    afterEach(async () => {
      await disk[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    });
    const inFolder = (name: string): string => path.join(directory, name);

    /** A file of the export's size: data in some places, zeros in the others. */
    async function makeSparseFile(name: string): Promise<string> {
      const random = randomFrom(testSeed);
      const bytes = Buffer.alloc(disk.sizeBytes);
      for (let start = 0; start < bytes.length; start += 64 * 1024) {
        if (random() < 0.6) continue;
        for (let at = start; at < start + 64 * 1024; at += 4) bytes.writeUInt32LE(1 + Math.floor(random() * 2 ** 31), at);
      }
      await writeFile(inFolder(name), bytes);
      return inFolder(name);
    }

    const qemuIo = (target: string, ...commands: string[]): Promise<string> =>
      run('qemu-io', '-f', 'raw', '-d', 'unmap', ...commands.flatMap((command) => ['-c', command]), target);

    describe('qemu-img and qemu-io', () => {
      before(function () {
        requireTool(this, 'qemu-img', 'qemu-utils');
      });

      it('see a raw disk of the right size', async () => {
        const info = JSON.parse(await run('qemu-img', 'info', '--output=json', disk.uri)) as Record<string, unknown>;
        expect(info).to.include({ 'virtual-size': disk.sizeBytes, format: 'raw' });
      });

      it('read what they write, trim and zero, at any place, as from a file', async () => {
        const random = randomFrom(testSeed);
        const place = (align: number, most: number): string => {
          const length = align * (1 + Math.floor(random() * (most / align)));
          return `${align * Math.floor((random() * (disk.sizeBytes - length)) / align)} ${length}`;
        };
        const commands: string[] = [];
        for (let round = 0; round < 40; round += 1) {
          const kind = random();
          const pattern = 1 + Math.floor(random() * 255);
          if (kind < 0.35) commands.push(`write -P ${pattern} ${place(1, 20_000)}`);
          else if (kind < 0.5) commands.push(`write -f -P ${pattern} ${place(512, 3 * MiB)}`);
          else if (kind < 0.65) commands.push(`write -z ${place(1, 2 * MiB)}`);
          else if (kind < 0.8) commands.push(`write -z -u ${place(512, 4 * MiB)}`);
          else if (kind < 0.9) commands.push(`aio_write -P ${pattern} ${place(4096, 64 * 1024)}`, 'aio_flush');
          else commands.push('flush');
        }
        const model = inFolder('model.raw');
        await run('qemu-img', 'create', '-f', 'raw', model, String(disk.sizeBytes));
        await qemuIo(model, ...commands);
        await qemuIo(disk.uri, ...commands);
        expect(await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', model, disk.uri)).to.contain('identical');
      });

      it('read zeros or old bytes where they discard, and nothing else changes', async () => {
        await qemuIo(disk.uri, 'write -P 5 0 4M', 'discard 1M 1M', 'flush');
        const answers = await qemuIo(disk.uri, 'read -P 5 0 1M', 'read -P 5 2M 2M');
        expect(answers).not.to.contain('Pattern verification failed');
      });

      it('find the errors that a disk has', async () => {
        const { stdout, stderr } = await answerOf('qemu-io', '-f', 'raw', '-c', `write ${disk.sizeBytes - 512} 1024`, disk.uri);
        expect(stdout + stderr).to.match(/past end of device|No space|Input\/output|Invalid argument/);
      });

      it('convert to the disk and back, many requests at a time, and compare', async () => {
        const file = await makeSparseFile('data.raw');
        const qcow2 = inFolder('data.qcow2');
        await run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', file, qcow2);
        await run('qemu-img', 'convert', '-n', '-W', '-m', '8', '-O', 'raw', qcow2, disk.uri);
        expect(await run('qemu-img', 'compare', '-F', 'raw', qcow2, disk.uri)).to.contain('identical');
        const back = inFolder('back.qcow2');
        await run('qemu-img', 'convert', '-W', '-m', '16', '-f', 'raw', '-O', 'qcow2', disk.uri, back);
        expect(await run('qemu-img', 'compare', '-f', 'raw', file, back)).to.contain('identical');
      });

      it('map zeros where there are some, and never data as zeros', async () => {
        await qemuIo(disk.uri, 'write -P 7 2M 1M', 'write -P 8 5M 4k', 'flush');
        const map = JSON.parse(await run('qemu-img', 'map', '--output=json', '-f', 'raw', disk.uri)) as MapEntry[];
        const isZeroAt = (at: number): boolean => map.find(({ start, length }) => at >= start && at < start + length)!.zero;
        expect([0, 2 * MiB, 3 * MiB - 1, 5 * MiB, disk.sizeBytes - 1].map(isZeroAt)).to.deep.equal([
          true,
          false,
          false,
          false,
          true,
        ]);
        expect(map.reduce((sum, { length }) => sum + length, 0)).to.equal(disk.sizeBytes);
      });
    });

    describe('nbdinfo and nbdcopy', () => {
      before(function () {
        requireTool(this, 'nbdinfo', 'libnbd-bin');
        requireTool(this, 'nbdcopy', 'libnbd-bin');
      });

      it('see what the export can do', async () => {
        const { exports } = JSON.parse(await run('nbdinfo', '--json', disk.uri)) as { exports: Record<string, unknown>[] };
        expect(exports).to.have.length(1);
        expect(exports[0]).to.deep.include({
          'export-size': disk.sizeBytes,
          is_read_only: false,
          can_df: true,
          can_fast_zero: true,
          can_flush: true,
          can_fua: true,
          can_trim: true,
          can_zero: true,
          contexts: ['base:allocation'],
          block_size_minimum: 1,
          block_size_maximum: 32 * MiB,
        });
        expect(await run('nbdinfo', '--size', disk.uri)).to.equal(`${disk.sizeBytes}\n`);
      });

      it('see its zeros', async function () {
        requireTool(this, 'qemu-io', 'qemu-utils');
        await qemuIo(disk.uri, 'write -P 7 2M 1M');
        const map = JSON.parse(await run('nbdinfo', '--map', '--json', disk.uri)) as {
          offset: number;
          length: number;
          type: number;
        }[];
        const typeAt = (at: number): number => map.find(({ offset, length }) => at >= offset && at < offset + length)!.type;
        expect([typeAt(0) & 2, typeAt(2 * MiB) & 2, typeAt(3 * MiB - 1) & 2, typeAt(disk.sizeBytes - 1) & 2]).to.deep.equal([
          2, 0, 0, 2,
        ]);
      });

      it('copy both ways', async () => {
        const file = await makeSparseFile('data.raw');
        await run('nbdcopy', '--flush', file, disk.uri);
        await run('nbdcopy', disk.uri, inFolder('back.raw'));
        await run('cmp', file, inFolder('back.raw'));
        await run('nbdcopy', '--synchronous', disk.uri, inFolder('slowly.raw'));
        await run('cmp', file, inFolder('slowly.raw'));
      });
    });

    describe('nbdsh', () => {
      before(function () {
        requireTool(this, 'nbdsh', 'python3-libnbd', '-c', 'pass');
      });

      /** Runs Python with a connected handle `h`, or with one still to be set up. */
      const connected = (code: string): Promise<string> => run('nbdsh', '-u', disk.uri, '-c', code);
      const unconnected = (code: string): Promise<string> => run('nbdsh', '-c', `uri = ${JSON.stringify(disk.uri)}\n${code}`);

      const roundTrip = `
import os
size = h.get_size()
data = os.urandom(100000)
h.pwrite(data, 12345)
assert h.pread(100000, 12345) == data
assert h.pread(10, 0) == bytes(10)
h.flush()
`;

      it('works with structured replies', async () => {
        await connected(`
assert h.get_structured_replies_negotiated()
${roundTrip}
assert h.can_df()
whole = []
def only(buf, offset, status, error):
    whole.append((offset, len(buf)))
assert h.pread_structured(65536, 12345, only, nbd.CMD_FLAG_DF) == data[:65536]
assert h.pread_structured(1000, 4000000, only, nbd.CMD_FLAG_DF) == bytes(1000)
assert whole == [(12345, 65536), (4000000, 1000)], whole
parts = []
def chunk(buf, offset, status, error):
    parts.append((offset, len(buf), status))
buf = h.pread_structured(200000, 0, chunk)
assert buf[12345:112345] == data and buf[:12345] == bytes(12345)
assert sum(length for (_, length, _) in parts) >= 100000, parts
`);
      });

      it('works with simple replies', async () => {
        await unconnected(`
h.set_request_structured_replies(False)
h.connect_uri(uri)
assert not h.get_structured_replies_negotiated()
assert not h.can_df()
${roundTrip}
`);
      });

      it('works as the oldest clients do: EXPORT_NAME, no options, zeros behind the answer', async () => {
        for (const flags of ['0', 'nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE', 'nbd.HANDSHAKE_FLAG_NO_ZEROES']) {
          await unconnected(`
h.set_handshake_flags(${flags})
h.connect_uri(uri)
${roundTrip}
h.trim(size, 0)
`);
        }
      });

      it('gets the status of blocks, one or all', async () => {
        await unconnected(`
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri(uri)
${roundTrip}
assert h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
def all_of(flags):
    runs = []
    at = 0
    while at < size:
        entries = []
        def extent(context, offset, e, err):
            assert context == nbd.CONTEXT_BASE_ALLOCATION and offset == at
            entries.extend(e)
        h.block_status(size - at, at, extent, flags)
        if flags == nbd.CMD_FLAG_REQ_ONE:
            assert len(entries) == 2 and entries[0] <= size - at
        for i in range(0, len(entries), 2):
            runs.append((at, entries[i], entries[i + 1]))
            at += entries[i]
    assert at == size
    return runs
for runs in (all_of(0), all_of(nbd.CMD_FLAG_REQ_ONE)):
    for (at, length, state) in runs:
        if state & nbd.STATE_ZERO:
            assert at + length <= 12345 or at >= 112345, runs
    assert any(state & nbd.STATE_ZERO for (_, _, state) in runs), runs
`);
      });

      it('gets FUA, fast zeroes and zeroes without holes', async () => {
        await connected(`
${roundTrip}
h.pwrite(b'x' * 4096, 0, nbd.CMD_FLAG_FUA)
h.zero(4096, 8192, nbd.CMD_FLAG_FUA)
h.zero(5000, 20000, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(5000, 20000) == bytes(5000)
h.pwrite(b'y' * 1048576, 4 * 1048576)
try:
    h.zero(1048576, 4 * 1048576, nbd.CMD_FLAG_FAST_ZERO)
    assert h.pread(1048576, 4 * 1048576) == bytes(1048576)
except nbd.Error as e:
    assert e.errno in ('ENOTSUP', 'EOPNOTSUPP'), e
    assert h.pread(1048576, 4 * 1048576) == b'y' * 1048576
h.trim(1048576, 4 * 1048576, nbd.CMD_FLAG_FUA)
`);
      });

      it('has requests past the end refused, and goes on', async () => {
        await connected(`
h.set_strict_mode(0)
def refused(work, *codes):
    try:
        work()
    except nbd.Error as e:
        assert e.errno in codes, e
    else:
        raise AssertionError('not refused')
size = h.get_size()
refused(lambda: h.pread(512, size), 'EINVAL')
refused(lambda: h.pwrite(bytes(512), size - 1), 'ENOSPC')
refused(lambda: h.zero(512, size), 'ENOSPC')
refused(lambda: h.trim(512, size), 'EINVAL')
refused(lambda: h.pread(512, 0, 1 << 14), 'EINVAL')
refused(lambda: h.cache(512, 0), 'EINVAL')
${roundTrip}
`);
      });

      it('has hundreds of requests under way', async () => {
        await connected(`
import os
data = os.urandom(4096 * 500)
bufs = []
for i in range(500):
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data[i * 4096:(i + 1) * 4096])), i * 4096)
while h.aio_in_flight() > 0: h.poll(-1)
for i in range(500):
    b = nbd.Buffer(4096)
    bufs.append(b)
    h.aio_pread(b, i * 4096)
while h.aio_in_flight() > 0: h.poll(-1)
assert b''.join(bytes(b.to_bytearray()) for b in bufs) == data
`);
      });
    });
  });
}
