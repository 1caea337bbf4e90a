import { describe, expect, it } from 'vitest';
import { parseEal } from '../../src/cli/arguments/eal.ts';
import type { EalOptions } from '../../src/cli/arguments/eal.ts';
import { isLogged } from '../../src/cli/arguments/log-level.ts';
import { ArgumentFailure } from '../../src/cli/arguments/failure.ts';

const programName = 'dpdk-ts-testpmd';

function parse(argv: readonly string[], availableCpus: readonly number[] = [0, 1, 2, 3], drivers?: readonly string[]) {
  const parsed = parseEal(argv, { programName, availableCpus, drivers });
  if (parsed.kind === 'help') throw new Error('help');
  return parsed;
}

const options = (...argv: string[]): EalOptions => parse(argv).options;

function failure(argv: readonly string[], availableCpus: readonly number[] = [0, 1], drivers?: readonly string[]): string[] {
  try {
    parse(argv, availableCpus, drivers);
  } catch (error) {
    if (error instanceof ArgumentFailure) return error.report(programName);
    throw error;
  }
  throw new Error(`accepted: ${argv.join(' ')}`);
}

/** `0@0 1@0,1` */
const lcores = (eal: EalOptions) => eal.lcores.map((lcore) => `${lcore.id}@${lcore.cpus.join(',')}`).join(' ');

const invalidCommandLine = [
  "EAL: FATAL: Invalid 'command line' arguments.",
  "EAL: Invalid 'command line' arguments.",
  'EAL: Error - exiting with code: 1',
  '  Cause: Cannot init EAL: Invalid argument',
];

describe('lcores', () => {
  it('are all CPUs of the process unless named', () => {
    expect(lcores(parse([], [3, 1]).options)).toBe('1@1 3@3');
    expect(lcores(parse([], [5]).options)).toBe('5@5');
    expect(lcores(parse([], [200, 201]).options)).toBe('0@200 1@201');
    expect(lcores(parse([], [3, 200]).options)).toBe('3@3');
    expect(failure([], [])[0]).toBe('EAL: No detected lcore is enabled, please check the core list');
  });

  it.each([
    [['-l', '0,1'], '0@0 1@1'],
    [['-l', '0-2'], '0@0 1@1 2@2'],
    [['-l0-1'], '0@0 1@1'],
    [['-l', ' 3 , 0 - 1 , 1'], '0@0 1@1 3@3'],
    [['-c', '3'], '0@0 1@1'],
    [['-c', '0x3'], '0@0 1@1'],
    [['-c', '0Xa'], '1@1 3@3'],
    [['-c', 'f'], '0@0 1@1 2@2 3@3'],
    [['-cf'], '0@0 1@1 2@2 3@3'],
    [['-c', '0'.repeat(40) + '1'], '0@0'],
    [['--lcores', '0@0,1@0'], '0@0 1@0'],
    [['--lcores=0-3'], '0@0 1@1 2@2 3@3'],
    [['--lcores', '(0-1)@(0,1)'], '0@0,1 1@0,1'],
    [['--lcores', '1-3@2'], '1@2 2@2 3@2'],
    [['--lcores', '3-1'], '1@1 2@2 3@3'],
    [['--lcores', '(0,1)'], '0@0,1 1@0,1'],
    [['--lcores', '0,(1,2)@0-1'], '0@0 1@0,1 2@0,1'],
    [['--lcores', '0,2@1'], '0@0 2@1'],
    [['--lcores', '0@0,0@1'], '0@1'],
    [['--lcores', ' 0 , 1 '], '0@0 1@1'],
    [['--lcores', '( 0 - 1 , 3 ) @ ( 2 )'], '0@2 1@2 3@2'],
    [['--lcores', '127@0'], '127@0'],
  ])('%j', (argv, expected) => {
    expect(lcores(options(...argv))).toBe(expected);
  });

  it.each([
    [
      ['-l', '7'],
      ['EAL: lcore 7 unavailable', 'EAL: invalid core list, please check specified cores are part of 0-1'],
    ],
    [['-l', ''], ['EAL: invalid core list syntax']],
    [['-l', '0-'], ['EAL: invalid core list syntax']],
    [['-l', '1-0'], ['EAL: invalid core list syntax']],
    [['-l', '0,1,a'], ['EAL: invalid core list syntax']],
    [['-l', '0,,1'], ['EAL: invalid core list syntax']],
    [['-l=0-1'], ['EAL: invalid core list syntax']],
    [
      ['-l', '200'],
      [
        'EAL: lcore 200 >= RTE_MAX_LCORE (128)',
        'EAL: To use high physical core ids, please use --lcores to map them to lcore ids below RTE_MAX_LCORE, e.g. --lcores 0@200',
        'EAL: invalid core list syntax',
      ],
    ],
    [
      ['-c', 'f'],
      ['EAL: lcore 2 unavailable', 'EAL: lcore 3 unavailable', 'EAL: invalid coremask, please check specified cores are part of 0-1'],
    ],
    [
      ['-c', '0'],
      ['EAL: No lcores in coremask: [0]', 'EAL: invalid coremask syntax'],
    ],
    [
      ['-c', ''],
      ['EAL: No lcores in coremask: []', 'EAL: invalid coremask syntax'],
    ],
    [
      ['-c', '0x'],
      ['EAL: No lcores in coremask: [0x]', 'EAL: invalid coremask syntax'],
    ],
    [
      ['-c', 'zz'],
      ['EAL: invalid characters in coremask: [zz]', 'EAL: invalid coremask syntax'],
    ],
    [['--lcores', 'foo'], ['EAL: invalid parameter for --lcores']],
    [
      ['--lcores', '0@5'],
      ['EAL: core 5 unavailable', 'EAL: invalid parameter for --lcores'],
    ],
    [['--lcores', '0-129@0'], ['EAL: invalid parameter for --lcores']],
    [['--lcores', ''], ['EAL: invalid parameter for --lcores']],
    [['--lcores', '(0,1'], ['EAL: invalid parameter for --lcores']],
    [['--lcores', '0@(0'], ['EAL: invalid parameter for --lcores']],
    [['--lcores', '0)@0'], ['EAL: invalid parameter for --lcores']],
    [['--lcores', '0@0@0'], ['EAL: invalid parameter for --lcores']],
    [['--lcores', '0@'], ['EAL: invalid parameter for --lcores']],
    [['--lcores', '0,'], ['EAL: invalid parameter for --lcores']],
    [['--lcores', '0@2000'], ['EAL: invalid parameter for --lcores']],
    [['-l', '0', '-c', '3'], ['EAL: Option -c is ignored, because (-l) is set!']],
    [['-l', '0', '-l', '1'], ['EAL: Option -l is ignored, because (-l) is set!']],
    [['-l', '0-1', '--lcores', '0'], ['EAL: Option --lcores is ignored, because (-l) is set!']],
  ])('answers %j as DPDK does, and gives the reason', (argv, expected) => {
    const lines = failure(argv);
    expect(lines.slice(0, expected.length)).toEqual(expected);
    expect(lines.slice(expected.length, -1)).toEqual(invalidCommandLine);
    expect(lines.at(-1)).toMatch(/^dpdk-ts-testpmd: ./);
  });

  it("names today's spelling of -c", () => {
    expect(parse(['-c', 'b']).notices).toEqual(["-c b: today's spelling is -l 0-1,3"]);
  });

  it('can be put on CPUs that the process was not started on', () => {
    const parsed = parseEal(['-l', '0,1'], { programName, availableCpus: [0], presentCpus: [0, 1] });
    expect(parsed.kind === 'options' && lcores(parsed.options)).toBe('0@0 1@1');
  });

  it('have a main one', () => {
    expect(options('-l', '1,3').mainLcore).toBe(1);
    expect(options('-l', '1,3', '--main-lcore', '3').mainLcore).toBe(3);
    expect(options('--main-lcore=3', '-l', '1,3').mainLcore).toBe(3);
    expect(failure(['-l', '0,1', '--main-lcore', '5'])[0]).toBe('EAL: Main lcore is not enabled for DPDK');
    for (const id of ['x', '-1', '']) expect(failure(['--main-lcore', id])[0]).toBe('EAL: invalid parameter for --main-lcore');
  });
});

describe('memory', () => {
  it('reads sizes, files and directories', () => {
    expect(options('-m', '100', '--no-huge')).toMatchObject({ memoryMb: 100, socketMem: undefined, noHuge: true });
    expect(options('-m100', '-m', '200').memoryMb).toBe(200);
    expect(options('--socket-mem', '512')).toMatchObject({ memoryMb: 512, socketMem: [512] });
    expect(options('--socket-mem=512,0,512')).toMatchObject({ memoryMb: 1024, socketMem: [512, 0, 512] });
    expect(options('--in-memory', '--single-file-segments', '--file-prefix', 'tr', '--huge-dir=/mnt/huge')).toMatchObject({
      inMemory: true,
      singleFileSegments: true,
      filePrefix: 'tr',
      hugeDir: '/mnt/huge',
    });
    expect(options('--huge-unlink').hugeUnlink).toBe('always');
    expect(options('--huge-unlink=never').hugeUnlink).toBe('never');
    expect(options('--peer-mem', '512').peerMemMb).toBe(512);
    expect(options()).toMatchObject({ memoryMb: undefined, filePrefix: 'rte', hugeUnlink: 'existing', peerMemMb: 2048 });
  });

  it("names today's spelling of --socket-mem and --contig-mem", () => {
    expect(parse(['--socket-mem', '512']).notices).toEqual(["--socket-mem 512: today's spelling is -m 512"]);
    expect(parse(['--contig-mem'])).toMatchObject({
      notices: ["--contig-mem: today's spelling is --single-file-segments"],
      options: { contigMem: true, singleFileSegments: true },
    });
  });

  it.each([
    [['-m', 'x'], 'EAL: invalid parameter for -m'],
    [['-m', '0'], 'EAL: invalid parameter for -m'],
    [['-m', '-5'], 'EAL: invalid parameter for -m'],
    [['--socket-mem', 'x'], 'EAL: invalid parameters for --socket-mem'],
    [['--socket-mem', '100,x'], 'EAL: invalid parameters for --socket-mem'],
    [['--socket-mem', '0'], 'EAL: invalid parameters for --socket-mem'],
    [['--socket-mem', '100,'], 'EAL: invalid parameters for --socket-mem'],
    [['--socket-mem', '-1,2'], 'EAL: invalid parameters for --socket-mem'],
    [['--peer-mem', '5000'], 'EAL: invalid parameter for --peer-mem'],
    [['--file-prefix', ''], 'EAL: Invalid length of --file-prefix option'],
    [['--file-prefix', 'a%b'], "EAL: Invalid char, '%', in --file-prefix option"],
    [['--file-prefix', '../x'], "EAL: Invalid char, '/', in --file-prefix option"],
    [['--huge-dir', ''], 'EAL: Invalid length of --huge-dir option'],
    [['--huge-unlink=foo'], 'EAL: invalid --huge-unlink option'],
    [['-m', '100', '--socket-mem', '100'], 'EAL: Options -m and --socket-mem cannot be specified at the same time'],
    [['--no-huge', '--socket-mem', '100'], 'EAL: Option --socket-mem cannot be specified together with --no-huge'],
    [['--no-huge', '--huge-unlink'], 'EAL: Option --huge-unlink cannot be specified together with --no-huge'],
    [['--single-file-segments', '--huge-unlink'], 'EAL: Option --single-file-segments is not compatible with --huge-unlink'],
    [['--in-memory', '--huge-unlink=never'], 'EAL: Option --in-memory is not compatible with --huge-unlink=never'],
    [['--in-memory', '--legacy-mem'], 'EAL: Option --legacy-mem is not compatible with --in-memory'],
    [['--legacy-mem', '--match-allocations'], 'EAL: Option --legacy-mem is not compatible with --match-allocations'],
    [['--no-huge', '--match-allocations'], 'EAL: Option --no-huge is not compatible with --match-allocations'],
    [['--no-huge', '--huge-worker-stack'], 'EAL: Option --huge-worker-stack cannot be specified together with --no-huge'],
  ])('%j', (argv, first) => {
    expect(failure(argv)[0]).toBe(first);
  });
});

describe('devices', () => {
  it('reads virtual devices in either form, in order', () => {
    const { vdevs } = options('--vdev=virtio_user0,path=/tmp/s,queues=2', '--vdev', 'net_null1', '--no-pci');
    expect(vdevs).toEqual([
      {
        name: 'virtio_user0',
        driver: 'virtio_user',
        text: 'path=/tmp/s,queues=2',
        args: [
          { key: 'path', value: '/tmp/s' },
          { key: 'queues', value: '2' },
        ],
      },
      { name: 'net_null1', driver: 'net_null', text: '', args: [] },
    ]);
    expect(options('--no-pci').noPci).toBe(true);
  });

  it('takes the last of two devices of one name, as DPDK does, and says so', () => {
    const parsed = parse(['--vdev', 'net_null0,size=64', '--vdev', 'net_null0,size=128']);
    expect(parsed.options.vdevs.map((device) => device.text)).toEqual(['size=128']);
    expect(parsed.notices).toEqual(['--vdev net_null0 is given more than once: the last one counts']);
  });

  it('knows the drivers when they are named', () => {
    const drivers = ['net_null', 'net_vhost', 'virtio_user', 'net_virtio_user'];
    const parsed = parse(['--vdev', 'net_virtio_user_left', '--vdev', 'net_vhost12'], [0, 1], drivers);
    expect(parsed.options.vdevs.map((device) => device.driver)).toEqual(['net_virtio_user', 'net_vhost']);
    expect(failure(['--vdev', 'net_foo0'], [0, 1], drivers)).toEqual([
      'EAL: failed to parse device "net_foo0"',
      "EAL: Unable to parse device 'net_foo0'",
      'EAL: Error - exiting with code: 1',
      '  Cause: Cannot init EAL: No such device',
      'dpdk-ts-testpmd: --vdev net_foo0: no driver for "net_foo0"; known drivers: net_null, net_vhost, virtio_user, net_virtio_user',
    ]);
    expect(failure(['--vdev', 'virtio-user0'], [0, 1], drivers).at(-1)).toContain('did you mean virtio_user?');
  });

  it('refuses what is no device', () => {
    for (const text of ['', ',path=x', 'a b', '0', 'net_null0,size=1,size=2']) {
      expect(failure(['--vdev', text])[0]).toBe(`EAL: failed to parse device "${text}"`);
    }
  });

  it('reads PCI addresses', () => {
    expect(options('-a', '4:1f.7', '--allow=0001:0A:00.0,vectorized=1').allow).toEqual([
      { name: '0000:04:1f.7', text: '', args: [] },
      { name: '0001:0a:00.0', text: 'vectorized=1', args: [{ key: 'vectorized', value: '1' }] },
    ]);
    expect(options('-b', '0000:00:04.0').block.map((device) => device.name)).toEqual(['0000:00:04.0']);
    for (const text of ['zz', '', '00:20.0', '0:0.8', 'net_null0', '00:04.0,x=1,x=2']) {
      expect(failure(['-a', text])[0]).toBe(`EAL: failed to parse device "${text}"`);
      expect(failure(['--block', text])[0]).toBe(`EAL: failed to parse device "${text}"`);
    }
    expect(failure(['-a', '0:4.0', '-b', '0:5.0'])[0]).toBe("EAL: Options allow (-a) and block (-b) can't be used at the same time");
  });
});

describe('the other EAL options', () => {
  it('reads them', () => {
    expect(options('-n', '4').channels).toBe(4);
    expect(options('-n4', '-v')).toMatchObject({ channels: 4, version: true });
    expect(options('--proc-type', 'auto').procType).toBe('auto');
    expect(options('--proc-type=PRIMARY').procType).toBe('primary');
    expect(options('--iova-mode=va').iovaMode).toBe('va');
    expect(options('--iova-mode', 'pa').iovaMode).toBe('pa');
    expect(options('--force-max-simd-bitwidth=64').maxSimdBitwidth).toBe(64);
    expect(options('--force-max-simd-bitwidth', '0x100').maxSimdBitwidth).toBe(256);
    expect(options('--force-max-simd-bitwidth=0').maxSimdBitwidth).toBe(0);
  });

  it.each([
    [['-n', '0'], 'EAL: invalid channel number'],
    [['-n', 'x'], 'EAL: invalid channel number'],
    [['-n', '-1'], 'EAL: invalid channel number'],
    [['-n', '33'], 'EAL: invalid channel number'],
    [['--proc-type=foo'], 'EAL: Invalid process type specified'],
    [['--proc-type=secondary'], 'EAL: --proc-type=secondary is not supported'],
    [['--iova-mode=foo'], 'EAL: invalid parameters for --iova-mode'],
    [['--force-max-simd-bitwidth=65'], 'EAL: Invalid bitwidth value!'],
    [['--force-max-simd-bitwidth=32'], 'EAL: Invalid bitwidth value!'],
    [['--force-max-simd-bitwidth=65536'], 'EAL: Invalid bitwidth value!'],
    [['--force-max-simd-bitwidth=4294967296'], 'EAL: Invalid bitwidth value!'],
    [['--force-max-simd-bitwidth=x'], 'EAL: invalid parameter for --force-max-simd-bitwidth'],
    [['-d', 'x.so'], 'EAL: -d is not supported'],
    [['-s', '1'], 'EAL: -s is not supported'],
    [['-S', '1'], 'EAL: -S is not supported'],
    [['--trace=.*'], 'EAL: --trace is not supported'],
    [['--vfio-intr=msi'], 'EAL: --vfio-intr is not supported'],
    [['--vfio-vf-token', 'x'], 'EAL: --vfio-vf-token is not supported'],
  ])('%j', (argv, first) => {
    const lines = failure(argv);
    expect(lines[0]).toBe(first);
    expect(lines.at(-1)).toMatch(/^dpdk-ts-testpmd: -/);
  });

  it.each([
    ['-r', '4'],
    ['--base-virtaddr', '0x100000000'],
    ['--create-uio-dev'],
    ['--huge-worker-stack'],
    ['--huge-worker-stack=64'],
    ['--legacy-mem'],
    ['--match-allocations'],
    ['--mbuf-pool-ops-name', 'ring_mp_mc'],
    ['--no-hpet'],
    ['--no-shconf'],
    ['--no-telemetry'],
    ['--telemetry'],
    ['--socket-limit', '1'],
    ['--syslog', 'user'],
    ['--trace-bufsz', '1M'],
    ['--trace-dir', '/x'],
    ['--trace-mode', 'o'],
    ['--vmware-tsc-map'],
  ])('ignores %s with one line', (...argv) => {
    const { notices } = parse(argv);
    expect(notices).toHaveLength(1);
    expect(notices[0]).toMatch(/^-.* has no effect: /);
    expect(notices[0]).toContain(argv[0].split('=')[0]);
  });
});

describe('--log-level', () => {
  it.each([
    ['debug', undefined, 'glob', 8],
    ['8', undefined, 'glob', 8],
    ['n', undefined, 'glob', 6],
    ['e', undefined, 'glob', 1],
    ['err', undefined, 'glob', 4],
    ['pmd.net.virtio.*:debug', 'pmd.net.virtio.*', 'glob', 8],
    ['lib.*,info', 'lib.*', 'regexp', 7],
  ])('%s', (text, pattern, syntax, level) => {
    expect(options('--log-level', text).logLevels).toEqual([{ pattern, syntax, level }]);
  });

  it.each([
    ['', false],
    ['8', false],
    ['pmd.net.virtio.*:debug', true],
    ['pmd.net.virtio.init:info', true],
    ['pmd.net.virtio.init:notice', false],
    ['pmd?net?virtio*:8', true],
    ['pmd.net.virtio:debug', false],
    ['virtio,debug', true],
    ['*:debug 5', false],
    ['5 8 *:debug', true],
    ['*:debug pmd.net.virtio.*:notice', false],
    ['user1:debug', false],
  ])('%j shows what virtio logs at level info: %s', (texts, shown) => {
    const argv = texts
      .split(' ')
      .filter((text) => text !== '')
      .flatMap((text) => ['--log-level', text]);
    expect(isLogged(options(...argv).logLevels, 'pmd.net.virtio.init', 'info')).toBe(shown);
  });

  it('never ends the program, as in DPDK', () => {
    for (const [text, first] of [
      ['foo', 'Invalid log level: foo'],
      ['0', 'Invalid log level: 0'],
      ['', 'Invalid log level: '],
      ['pmd:foo', 'Invalid log level: foo'],
      ['lib(,info', 'Invalid log type: lib('],
    ] as const) {
      const parsed = parse(['--log-level', text]);
      expect(parsed.options.logLevels).toEqual([]);
      expect(parsed.notices.slice(0, 2)).toEqual([first, 'EAL: invalid parameters for --log-level']);
    }
    const high = parse(['--log-level=9']);
    expect(high.notices).toEqual(['Log level 9 higher than maximum (8)']);
    expect(high.options.logLevels).toEqual([{ pattern: undefined, syntax: 'glob', level: 8 }]);
  });
});

describe('getopt', () => {
  it('takes abbreviations that can mean one option only', () => {
    expect(options('--vde', 'net_null0', '--no-p', '--file-p', 'x')).toMatchObject({ noPci: true, filePrefix: 'x' });
    expect(options('--in').inMemory).toBe(true);
    expect(options('--p=auto').procType).toBe('auto'); // never our own --peer-mem
    expect(options('--pe=7').peerMemMb).toBe(7);
  });

  it.each([
    [['--foo'], "dpdk-ts-testpmd: unrecognized option '--foo'"],
    [['--foo=1'], "dpdk-ts-testpmd: unrecognized option '--foo=1'"],
    [['--=1'], "dpdk-ts-testpmd: unrecognized option '--=1'"],
    [['-x'], "dpdk-ts-testpmd: invalid option -- 'x'"],
    [['-vx'], "dpdk-ts-testpmd: invalid option -- 'x'"],
    [['-m'], "dpdk-ts-testpmd: option requires an argument -- 'm'"],
    [['--vdev'], "dpdk-ts-testpmd: option '--vdev' requires an argument"],
    [['--no-pci=1'], "dpdk-ts-testpmd: option '--no-pci' doesn't allow an argument"],
    [['--contig'], "dpdk-ts-testpmd: unrecognized option '--contig'"],
    [
      ['--no'],
      "dpdk-ts-testpmd: option '--no' is ambiguous; possibilities: '--no-pci' '--no-huge' '--no-hpet' '--no-shconf' '--no-telemetry'",
    ],
  ])('%j', (argv, first) => {
    const lines = failure(argv);
    expect(lines[0]).toBe(first);
    expect(lines.slice(1, 5)).toEqual(invalidCommandLine);
  });

  it('suggests the option that was meant', () => {
    expect(failure(['--file-prefx=a']).at(-1)).toBe('dpdk-ts-testpmd: did you mean --file-prefix?');
  });

  it('gives what comes after -- to the application, and operands before it', () => {
    expect(parse(['-l', '0,1', '--', '-i', '--', 'x']).rest).toEqual(['-i', '--', 'x']);
    expect(parse(['foo', '-n', '4', '-', '--', '-i']).rest).toEqual(['foo', '-', '-i']);
    expect(parse(['-l', '0,1']).rest).toEqual([]);
  });

  it('lets an option that needs a value take --, as getopt does', () => {
    expect(failure(['--file-prefix', '--', '--burst=4'])[0]).toBe("dpdk-ts-testpmd: unrecognized option '--burst=4'");
  });
});
