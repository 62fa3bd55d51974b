import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect } from 'chai';

const program = (module: string): string => `
  const { widenSystemThreads } = await import(${JSON.stringify(module)});
  widenSystemThreads();
  const fs = await import('node:fs');
  await fs.promises.stat('/');
  const tasks = fs.readdirSync('/proc/self/task').map((id) => fs.readFileSync('/proc/self/task/' + id + '/comm', 'utf8'));
  console.log(tasks.filter((name) => name.startsWith('libuv-worker')).length);`;

describe('the threads that files are used in', () => {
  const count = async (environment: NodeJS.ProcessEnv): Promise<number> => {
    const module = new URL('../../../src/platform/system-threads.ts', import.meta.url).href;
    const { UV_THREADPOOL_SIZE: _, ...rest } = process.env;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program(module)], {
      env: { ...rest, ...environment },
    });
    return Number(stdout);
  };

  it('are more than Node starts by itself, or as many as the operator says', async function () {
    if (process.platform !== 'linux') this.skip();
    expect(await count({})).to.equal(48);
    expect(await count({ UV_THREADPOOL_SIZE: '3' })).to.equal(3);
  });
});
