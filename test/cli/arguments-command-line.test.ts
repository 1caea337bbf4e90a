import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCommandLine } from '../../src/cli/arguments/command-line.ts';
import { EAL_OPTIONS } from '../../src/cli/arguments/eal-options.ts';
import { optionName } from '../../src/cli/arguments/option-table.ts';
import { TESTPMD_OPTIONS } from '../../src/cli/arguments/testpmd-options.ts';

const context = { programName: 'dpdk-ts-testpmd', availableCpus: [0, 1, 2, 3] };
/** Splits at blanks; quotes keep none together here, as no value has any. */
const words = (text: string): string[] => text.replaceAll("'", '').split(/\s+/).filter(Boolean);
const parse = (text: string, availableCpus: readonly number[] = context.availableCpus) =>
  parseCommandLine(words(text), { ...context, availableCpus });

function run(text: string) {
  const result = parse(text);
  if (result.kind !== 'run') throw new Error(result.kind === 'failure' ? result.lines.join('\n') : result.text);
  return result;
}

describe("the documents' command lines", () => {
  it('takes those of the vhost sample application guide', () => {
    const first = run('-c 0x3 -n 4 --socket-mem 512 -- --burst=64 --i --disable-hw-vlan-filter');
    expect(first).toMatchObject({
      eal: { channels: 4, memoryMb: 512, lcores: [{ id: 0 }, { id: 1 }] },
      testpmd: { burst: 64, interactive: true },
    });
    expect(first.notices).toEqual([
      "-c 0x3: today's spelling is -l 0-1",
      "--socket-mem 512: today's spelling is -m 512",
      "--i: today's spelling is --interactive, or -i",
      "--disable-hw-vlan-filter: today's spelling is to leave it out: VLAN filtering is off unless --rx-offloads asks for it",
    ]);
    const peers = run(
      '-c 0x3 -n 4 --socket-mem 512 -- --burst=64 --i --disable-hw-vlan-filter --eth-peer=0,aa:bb:cc:dd:ee:ff --eth-peer=1,ff:ee:dd:cc:bb:aa',
    );
    expect(peers.testpmd.ethPeers.map((peer) => peer.port)).toEqual([0, 1]);
    expect(
      run(
        '-c 0x3 -n 4 --socket-mem 1024 --no-pci --file-prefix=virtio_user-testpmd --vdev=virtio_user0,mac=00:01:02:03:04:05,path=/tmp/v -- -i --txqflags=0xf01 --disable-hw-vlan',
      ),
    ).toMatchObject({
      eal: { noPci: true, filePrefix: 'virtio_user-testpmd', vdevs: [{ name: 'virtio_user0', text: 'mac=00:01:02:03:04:05,path=/tmp/v' }] },
      testpmd: { interactive: true },
    });
  });

  it('takes those of the virtio driver guide', () => {
    expect(run('-l 0-2 -n 4 -- -i --tx-offloads=0x0 --rxq=1 --txq=1 --nb-cores=1')).toMatchObject({
      testpmd: { interactive: true, txOffloads: 0, rxq: 1, txq: 1, nbCores: 1 },
      notices: [],
    });
  });

  it('takes those of the kernel data path guides', () => {
    const device = '--vdev=virtio_user0,path=/dev/vhost-net';
    const offloads = { txOffloads: 0x2c, rxOffloads: 0x10, txd: 1024, rxd: 1024 };
    expect(run(`-l 2-3 -n 4 ${device},queue_size=1024 -- -i --tx-offloads=0x0000002c --enable-lro --txd=1024 --rxd=1024`)).toMatchObject({
      testpmd: { ...offloads, rxq: 1, txq: 1 },
      notices: [],
    });
    for (const mask of ['0x0000002c', '0x002c', '0x02c']) {
      const text = `-l 2-3 -n 4 ${device},queues=2,queue_size=1024 -- -i --tx-offloads=${mask} --enable-lro --txq=2 --rxq=2 --txd=1024 --rxd=1024`;
      expect(run(text)).toMatchObject({ testpmd: { ...offloads, rxq: 2, txq: 2 }, notices: [] });
    }
    expect(run(`-l 0,1 -a 0000:00:05.0 ${device},queues=1,queue_size=1024`).eal.allow).toHaveLength(1);
    expect(run('-l 0,1 --vdev=net_af_packet0,iface=tap0 --in-memory --no-pci').eal.vdevs[0]?.driver).toBe('net_af_packet');
  });

  it.each([
    "--lcores '0@0,1@0' --no-pci --in-memory --file-prefix tr --vdev net_null0,size=64 -- -i",
    "--lcores '0@0,1@0' --no-pci --in-memory --single-file-segments --file-prefix tr --vdev net_null0 --vdev net_null1 -- -i --total-num-mbufs=4096",
    "--lcores '0@1,1@1' --no-pci --in-memory --single-file-segments --file-prefix t3c --vdev virtio_user0,path=/tmp/t3.sock,queues=1,queue_size=256 -- -i --total-num-mbufs=4096",
    "--lcores '0@0,1@0' --no-pci --in-memory --file-prefix tr --vdev net_null0 -- -i --total-num-mbufs=4096 --cmdline-file=/tmp/cmds.txt",
    '--no-huge -m 200 --no-pci --file-prefix ni -l 0,1 --vdev net_null0,copy=1 --vdev net_null1,copy=1 -- --total-num-mbufs=4096 --stats-period=1',
    '--no-huge -m 200 --no-pci --file-prefix ni -l 0,1 --vdev net_null0,copy=1 --vdev net_null1,copy=1 -- --total-num-mbufs=4096 --tx-first',
    '--no-huge -m 200 --no-pci --file-prefix ni -l 0,1 --vdev net_null0,copy=1 -- --total-num-mbufs=4096 -i --auto-start',
    '-l 0,1 --no-pci --in-memory --vdev net_null0 --log-level=foo -- -i',
    '-v --no-pci -l 0,1 --in-memory --vdev net_null0 -- --total-num-mbufs=4096 --auto-start',
    '-l 0-1 -n 1 --no-pci --in-memory -m 96 --vdev=virtio_user0,path=/dev/vhost-net,queues=1,queue_size=1024 -- -i --nb-cores=1',
  ])('runs %s', (text) => {
    expect(parse(text, [0, 1]).kind).toBe('run');
  });
});

describe('parseCommandLine', () => {
  it('runs, without a prompt, when nothing follows the EAL arguments', () => {
    for (const text of ['', '-l 0,1', '-l 0,1 --']) expect(run(text).testpmd.interactive).toBe(false);
  });

  it('prints help and exits with 0', () => {
    expect(parse('-h')).toMatchObject({ kind: 'help', exitStatus: 0 });
    expect(parse('--help -- -i')).toMatchObject({ kind: 'help', exitStatus: 0 });
    expect(parse('-vh')).toMatchObject({ kind: 'help', exitStatus: 0 });
    expect(parse('--log-level=help')).toMatchObject({ kind: 'help', exitStatus: 0 });
    expect(parse('-- --help')).toMatchObject({ kind: 'help', exitStatus: 0 });
    expect(parse('-l 0 -- --help')).toMatchObject({ kind: 'help', exitStatus: 0 });
  });

  it('goes on after -v, as DPDK does', () => {
    expect(run('-v').eal.version).toBe(true);
  });

  it('fails with 1, and with the usage where DPDK prints it', () => {
    const eal = parse('--foo');
    expect(eal).toMatchObject({ kind: 'failure', exitStatus: 1 });
    expect(eal.kind === 'failure' && eal.usage.includes('EAL options:')).toBe(true);
    const own = parse('-- --foo');
    expect(own.kind === 'failure' && own.usage.includes('testpmd options:')).toBe(true);
    expect(parse('-- --burst=0')).toMatchObject({ kind: 'failure', exitStatus: 1, usage: '' });
  });

  it('takes operands before -- for arguments of the application, as DPDK does', () => {
    const result = parse('-l 0,1 extra -- -i');
    expect(result.kind === 'failure' && result.lines[0]).toBe('Invalid parameter: extra');
  });

  it('needs an lcore that can forward', () => {
    for (const result of [parse('-l 0 -- -i'), parse('', [0]), parse('-l 0 -- --burst=0')]) {
      expect(result.kind === 'failure' && result.lines.slice(0, 3)).toEqual([
        'EAL: Error - exiting with code: 1',
        '  Cause: No cores defined for forwarding',
        'Check the core mask argument',
      ]);
    }
  });

  it('answers whatever is typed', () => {
    const names = [...EAL_OPTIONS, ...TESTPMD_OPTIONS].map(optionName);
    const value = fc.oneof(
      fc.constantFrom(
        '',
        '0',
        '1',
        '-1',
        '0-1',
        '0@0,1@0',
        '(0-1)@(0,1)',
        'net_null0',
        'virtio_user0,path=/x,path=/y',
        'all',
        'x',
        '64,64',
        '9'.repeat(30),
      ),
      fc.string({ maxLength: 12 }),
      fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcdefx,-@()[]=: ')), maxLength: 12 }),
    );
    const name = fc.oneof(
      fc.constantFrom(...names),
      fc.constantFrom(...names).map((text) => text.slice(0, -2)),
    );
    const word = fc.oneof(
      name,
      fc.constant('--'),
      fc.string(),
      fc.string().map((text) => `-${text}`),
      value,
      fc.tuple(name, value).map(([option, text]) => `${option}=${text}`),
      fc.tuple(name, value).map(([option, text]) => `${option}${text}`),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), fc.subarray([0, 1, 2, 130]), (argv, availableCpus) => {
        const result = parseCommandLine(argv, { programName: 'x', availableCpus });
        if (result.kind === 'failure') {
          expect(result.lines.length).toBeGreaterThan(1);
          expect(result.lines.some((line) => line === 'EAL: Error - exiting with code: 1')).toBe(true);
        } else if (result.kind === 'run') {
          const { eal, testpmd } = result;
          expect(
            eal.lcores.every((lcore) => lcore.id < 128 && lcore.cpus.length > 0 && lcore.cpus.every((cpu) => availableCpus.includes(cpu))),
          ).toBe(true);
          expect(eal.lcores.some((lcore) => lcore.id === eal.mainLcore)).toBe(true);
          expect(testpmd.burst >= 1 && testpmd.burst <= 512).toBe(true);
        } else expect(result.text.endsWith('\n')).toBe(true);
      }),
      { numRuns: 5000 },
    );
  });
});

describe('usage', () => {
  it('names every option of the tables once, with its standing', () => {
    for (const [text, table] of [
      ['-h', EAL_OPTIONS],
      ['-- -h', TESTPMD_OPTIONS],
    ] as const) {
      const result = parse(text);
      const usage = result.kind === 'help' ? result.text : '';
      for (const option of table) {
        const name = optionName(option);
        const line = usage.split('\n').find((candidate) => candidate.split(/[\s=,[]+/).includes(name)) ?? '';
        const expected = { supported: /^ {2}-/, older: /^Older spellings/, ignored: /without effect/, refused: /refused:/ }[option.kind];
        expect(line, name).toMatch(expected);
      }
    }
  });

  it('has no two options of one name', () => {
    for (const table of [EAL_OPTIONS, TESTPMD_OPTIONS]) {
      for (const key of ['long', 'short'] as const) {
        const names = table.flatMap((option) => option[key] ?? []);
        expect(new Set(names).size).toBe(names.length);
      }
    }
  });
});
