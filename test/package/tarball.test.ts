/**
 * What a user of the npm package has: packed, installed into an empty project, run, and compiled against.
 *
 * Needs the registry for the two packages that it depends on; without, the tests of the installed package are skipped.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { lcoresArgument } from '../support/program.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LIMIT = 120_000;

interface Manifest {
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly exports?: Readonly<Record<string, unknown>>;
}

interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string; readonly mode: number }[];
}

const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-package-'));
const project = join(directory, 'project');
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function run(
  file: string,
  args: readonly string[],
  cwd: string,
  input = '',
): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
  // what npm sets for its scripts is not for the npm inside
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^npm_(?!config_(registry|cache|userconfig)$)|^NODE_OPTIONS$|^VITEST/i.test(name)),
  );
  const { status, stdout, stderr } = spawnSync(file, args, { cwd, input, env, encoding: 'utf8', timeout: LIMIT });
  return { status, stdout, stderr };
}

function manifestOf(path: string): Manifest {
  return JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')) as Manifest;
}

let packed: Packed;

beforeAll(() => {
  // as built by the test command: `prepare` would build again under the other tests' feet
  const { status, stdout, stderr } = run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', directory], ROOT);
  if (status !== 0) throw new Error(`npm pack: ${stderr}`);
  const [first] = JSON.parse(stdout) as readonly Packed[];
  if (first === undefined) throw new Error('npm pack packed nothing');
  packed = first;
}, LIMIT);

describe('the tarball', () => {
  test('holds what runs, and nothing else', () => {
    const paths = packed.files.map(({ path }) => path);
    for (const wanted of [
      'package.json',
      'README.md',
      'LICENSE',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/kernels.wasm',
      'dist/cli/testpmd-main.js',
    ]) {
      expect(paths).toContain(wanted);
    }
    const strange = paths.filter(
      (path) => !/^(package\.json|README\.md|LICENSE|docs\/[a-z0-9-]+\.md|dist\/.+\.(js|d\.ts)|dist\/kernels\.wasm)$/.test(path),
    );
    expect(strange).toEqual([]);
    // every file has its source: nothing of an earlier build
    const orphans = paths
      .filter((path) => path.startsWith('dist/') && !path.endsWith('.wasm'))
      .filter((path) => !existsSync(join(ROOT, path.replace(/^dist/, 'src').replace(/(\.d\.ts|\.js)$/, '.ts'))));
    expect(orphans).toEqual([]);
    expect((packed.files.find(({ path }) => path === 'dist/cli/testpmd-main.js')?.mode ?? 0) & 0o111).not.toBe(0);
  });

  test('every export leads to a file with its declarations', () => {
    const targets = Object.values(manifestOf(ROOT).exports ?? {}).flatMap((target) =>
      typeof target === 'string' ? [target] : Object.values(target as Readonly<Record<string, string>>),
    );
    const paths = packed.files.map(({ path }) => `./${path}`);
    expect(targets.filter((target) => !paths.includes(target))).toEqual([]);
    expect(targets.length).toBeGreaterThan(10);
  });
});

function install(): string | undefined {
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'consumer', version: '1.0.0', type: 'module', private: true }));
  const { status, stderr } = run('npm', ['install', '--no-audit', '--no-fund', join(directory, packed.filename)], project);
  if (status === 0) return undefined;
  if (/E(NOTFOUND|AI_AGAIN|CONNREFUSED|TIMEDOUT|NOTCACHED|CONNRESET)|network/i.test(stderr))
    return `no registry: ${stderr.split('\n')[0] ?? ''}`;
  throw new Error(`npm install: ${stderr}`);
}

describe('installed into an empty project', () => {
  let whyNot: string | undefined;
  beforeAll(() => {
    whyNot = install();
  }, LIMIT);
  const installed = (name: string, body: () => void): void => {
    test(name, { timeout: LIMIT }, ({ skip }) => {
      if (whyNot !== undefined) skip(whyNot);
      body();
    });
  };

  installed('nothing is compiled and no script runs', () => {
    const modules = join(project, 'node_modules');
    const names = readdirSync(modules).flatMap((name) =>
      name.startsWith('@') ? readdirSync(join(modules, name)).map((inner) => `${name}/${inner}`) : [name],
    );
    const packages = names.filter((name) => !name.startsWith('.'));
    expect(packages).toContain('dpdk-ts');
    for (const name of packages) {
      const { scripts = {} } = manifestOf(join(modules, name));
      expect(
        Object.keys(scripts).filter((script) => ['preinstall', 'install', 'postinstall'].includes(script)),
        name,
      ).toEqual([]);
    }
    expect(Object.keys(manifestOf(join(modules, 'dpdk-ts')).dependencies ?? {}).sort()).toEqual(['commander', 'ffi-rs']);
  });

  installed('npx dpdk-ts-testpmd --help', () => {
    const { status, stdout, stderr } = run('npx', ['--no-install', 'dpdk-ts-testpmd', '--help'], project);
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/--vdev/);
  });

  installed('npx dpdk-ts-testpmd forwards between two ports', () => {
    const socket = join(directory, 'v.sock');
    const args = [
      ...lcoresArgument(0),
      '--no-huge',
      '--no-pci',
      '--file-prefix',
      'dpdk-ts-package',
      '--vdev',
      `virtio_user0,path=${socket}`,
      '--vdev',
      `net_vhost0,iface=${socket}`,
    ];
    const commands = 'start tx_first\nsleep 1\nstop\nshow port stats all\nquit\n';
    const { status, stdout, stderr } = run(
      'npx',
      ['--no-install', 'dpdk-ts-testpmd', ...args, '--', '-i', '--port-topology=loop'],
      project,
      commands,
    );
    expect(status, stderr).toBe(0);
    const received = /RX-packets: (\d+)/g;
    const counts = Array.from(stdout.matchAll(received), ([, count]) => Number(count));
    expect(Math.min(...counts), stdout).toBeGreaterThan(0);
    expect(stdout).toMatch(/Bye/);
  });

  installed('a program in JavaScript moves packets', () => {
    writeFileSync(
      join(project, 'program.js'),
      `import { createEnvironment, openPort, launch } from 'dpdk-ts';
       import { MbufAccess } from 'dpdk-ts/memory';
       const environment = createEnvironment({ mbufs: 2048, pageSize: 4096 });
       const iface = ${JSON.stringify(join(directory, 'program.sock'))};
       const device = await openPort('net_vhost', { iface, environment });
       const driver = await openPort('virtio_user', { path: iface, environment });
       await device.start();
       await driver.start();
       await device.waitForLink(true, { timeout: 5000 });
       const cores = await launch('macswap', { lcores: [{ id: 1, cpus: [(await import('dpdk-ts/system')).availableCpus()[0]] }], ports: [device], topology: 'loop' });
       await driver.send(Uint8Array.from({ length: 60 }, (_, at) => at + 2));
       for await (const packet of driver.packets()) {
         console.log(packet.length, packet.bytes[0], new MbufAccess(environment.arena.memory.views).length(packet.handle));
         break;
       }
       await environment.close();
       console.log(cores.counters().length, 'closed');`,
    );
    const { status, stdout, stderr } = run(process.execPath, ['program.js'], project);
    expect(`${stdout}${stderr}`).toBe('60 8 60\n1 closed\n');
    expect(status).toBe(0);
  });

  describe('a strict TypeScript program compiles against it', () => {
    const CONSUMER = `import { createEnvironment, launch, openPort, VirtioError, type ForwardingEngine, type Packet, type PacketPort } from 'dpdk-ts';
import { type Arena, MBUF_HEADROOM, MbufAccess } from 'dpdk-ts/memory';
import { type KernelContext, loadKernels, QUEUE_RUNNING } from 'dpdk-ts/ring';
import { createPort, type Port } from 'dpdk-ts/port';
import { parseMac } from 'dpdk-ts/net';
import { availableCpus } from 'dpdk-ts/system';
import { planStreams } from 'dpdk-ts/lcore';
import { VIRTIO_F_VERSION_1, type VirtioBackend } from 'dpdk-ts/backend';

export const engine: ForwardingEngine = {
  name: 'mine',
  forward(stream) {
    const count: number = stream.receive();
    if (count > 0) stream.send(count);
  },
};

export async function main(signal: AbortSignal): Promise<number> {
  await using environment = createEnvironment({ mbufs: 4096, pageSize: 'auto' });
  await using port: PacketPort = await openPort('virtio_user', { path: '/tmp/vhost.sock', queue_size: 512, environment });
  await using text = await openPort('net_vhost0,iface=/tmp/s.sock');
  await port.start();
  using burst = port.arena.burst(32);
  const received: number = port.rxBurst(0, burst, 32);
  port.txBurst(0, burst, received);
  for await (const packet of port.packets({ signal })) {
    const one: Packet = packet;
    await text.send([one.bytes, new Uint8Array(60)], { signal });
    if (one.ethernet?.type === 0x0800) break;
  }
  await using cores = await launch(new URL('./engine.ts', import.meta.url), { lcores: [1, 2], ports: [port, text], topology: 'paired' });
  // @ts-expect-error: a key that virtio_user does not have
  await openPort('virtio_user', { path: '/tmp/x', quues: 2 });
  const headroom: number = MBUF_HEADROOM + QUEUE_RUNNING;
  const features: bigint = VIRTIO_F_VERSION_1;
  const error = new VirtioError('text', { code: 'EIO' });
  const below: readonly [typeof createPort, typeof loadKernels, typeof planStreams, typeof MbufAccess] = [createPort, loadKernels, planStreams, MbufAccess];
  const types: { arena?: Arena; kernels?: KernelContext; port?: Port; backend?: VirtioBackend } = {};
  return headroom + Number(features) + error.code.length + below.length + (parseMac('02:00:00:00:00:01')?.length ?? 0) + availableCpus().length + cores.counters().length + Object.keys(types).length;
}
`;

    for (const [module, resolution] of [
      ['nodenext', 'nodenext'],
      ['esnext', 'bundler'],
    ] as const) {
      installed(`moduleResolution ${resolution}, its declarations checked too, no DOM`, () => {
        const files = join(project, resolution);
        mkdirSync(files);
        writeFileSync(join(files, 'consumer.ts'), CONSUMER);
        const compilerOptions = {
          target: 'es2022',
          lib: ['es2023', 'esnext.disposable'],
          module,
          moduleResolution: resolution,
          strict: true,
          exactOptionalPropertyTypes: true,
          noUncheckedIndexedAccess: true,
          verbatimModuleSyntax: true,
          skipLibCheck: false,
          noEmit: true,
          types: ['node'],
          typeRoots: [join(ROOT, 'node_modules', '@types')],
        };
        writeFileSync(join(files, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }));
        const { status, stdout } = run(process.execPath, [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', files], project);
        expect(stdout).toBe('');
        expect(status).toBe(0);
      });
    }

    installed('without any types of Node', () => {
      const files = join(project, 'bare');
      mkdirSync(files);
      writeFileSync(
        join(files, 'consumer.ts'),
        `import { openPort, type ForwardingEngine } from 'dpdk-ts';
export const engine: ForwardingEngine = { name: 'none', forward: (stream) => stream.free(stream.receive()) };
export const port = openPort('net_null', { size: 64 });
`,
      );
      const compilerOptions = {
        target: 'es2022',
        lib: ['es2023'],
        module: 'nodenext',
        strict: true,
        skipLibCheck: false,
        noEmit: true,
        types: [],
      };
      writeFileSync(join(files, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }));
      const { status, stdout } = run(process.execPath, [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', files], project);
      expect(stdout).toBe('');
      expect(status).toBe(0);
    });
  });
});
