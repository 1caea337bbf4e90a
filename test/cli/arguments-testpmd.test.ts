import { describe, expect, it } from 'vitest';
import { ethPeersFileUnreadable, parseEthPeersFile } from '../../src/cli/arguments/eth-peers-file.ts';
import { ArgumentFailure } from '../../src/cli/arguments/failure.ts';
import { checkAgainstPorts } from '../../src/cli/arguments/port-checks.ts';
import { parseTestpmd } from '../../src/cli/arguments/testpmd.ts';
import type { TestpmdOptions } from '../../src/cli/arguments/testpmd.ts';
import { REFUSED_TESTPMD_OPTIONS } from '../../src/cli/arguments/testpmd-refused.ts';

const programName = 'dpdk-ts-testpmd';
const context = { programName, lcores: [0, 1, 2], mainLcore: 0 };

function parse(...argv: string[]) {
  const parsed = parseTestpmd(argv, context);
  if (parsed.kind === 'help') throw new Error('help');
  return parsed;
}

const options = (...argv: string[]): TestpmdOptions => parse(...argv).options;

function thrown(argv: readonly string[]): ArgumentFailure {
  try {
    parse(...argv);
  } catch (error) {
    if (error instanceof ArgumentFailure) return error;
    throw error;
  }
  throw new Error(`accepted: ${argv.join(' ')}`);
}

const failure = (...argv: string[]): string[] => thrown(argv).report(programName);
const exiting = 'EAL: Error - exiting with code: 1';

describe('options that are only given or not', () => {
  it('has defaults', () => {
    expect(options()).toMatchObject({
      interactive: false,
      autoStart: false,
      txFirst: false,
      statsPeriod: 0,
      mbufSize: 2176,
      mbcache: 250,
      portTopology: 'paired',
      forwardMode: 'io',
      rxq: 1,
      txq: 1,
      rxd: 0,
      txd: 0,
      burst: 32,
      txpkts: [64],
      txrate: 0,
      flowgenFlows: 1024,
      flushRx: true,
      linkCheck: true,
      deviceStart: true,
      lscInterrupt: true,
    });
    expect(options().printEvents.has('intr_lsc')).toBe(true);
    expect(options().printEvents.has('vf_mbox')).toBe(false);
    expect(parse().notices).toEqual([]);
  });

  it.each([
    [['-i'], { interactive: true }],
    [['--interactive'], { interactive: true }],
    [['--inter'], { interactive: true }],
    [['-a'], { autoStart: true }],
    [['-ia'], { interactive: true, autoStart: true }],
    [['--auto-start'], { autoStart: true }],
    [['--tx-first', '--no-lsc-interrupt'], { txFirst: true, lscInterrupt: false }],
    [['--no-flush-rx'], { flushRx: false }],
    [['--disable-link-check'], { linkCheck: false }],
    [['--disable-l'], { linkCheck: false }],
    [['--disable-device-start'], { deviceStart: false }],
    [['--no-lsc-interrupt'], { lscInterrupt: false }],
  ])('%j', (argv, expected) => {
    expect(parse(...argv)).toMatchObject({ options: expected, notices: [] });
  });

  it('switches link events off for --tx-first, as DPDK does', () => {
    expect(parse('--tx-first')).toMatchObject({
      options: { txFirst: true, lscInterrupt: false },
      notices: ['Warning: lsc_interrupt needs to be off when using tx_first. Disabling.'],
    });
  });
});

describe('values', () => {
  it.each([
    [['--burst=64'], { burst: 64 }],
    [['--burst', '512'], { burst: 512 }],
    [['--rxq=4', '--txq', '2'], { rxq: 4, txq: 2 }],
    [['--rxq=0'], { rxq: 0, txq: 1 }],
    [['--rxd=1024', '--txd=65535'], { rxd: 1024, txd: 65535 }],
    [['--nb-cores=2'], { nbCores: 2 }],
    [['--nb-ports=2'], { nbPorts: 2 }],
    [['--coremask=6'], { forwardingLcores: [1, 2] }],
    [['--coremask', '0x4'], { forwardingLcores: [2] }],
    [['--portmask=0x5'], { forwardingPorts: [0, 2] }],
    [['--portmask=80000000'], { forwardingPorts: [31] }],
    [['--portlist=2,0-1,2'], { forwardingPorts: [2, 0, 1] }],
    [['--portmask=1', '--portlist=3'], { forwardingPorts: [3] }],
    [['--mbuf-size=128'], { mbufSize: 128 }],
    [['--mbuf-size=65535'], { mbufSize: 65535 }],
    [['--total-num-mbufs=1025'], { totalNumMbufs: 1025 }],
    [['--mbcache=0'], { mbcache: 0 }],
    [['--mbcache=512'], { mbcache: 512 }],
    [['--max-pkt-len=64'], { maxPktLen: 64 }],
    [['--max-pkt-len=9018'], { maxPktLen: 9018 }],
    [['--stats-period', '1'], { statsPeriod: 1 }],
    [['--stats-period=0'], { statsPeriod: 0 }],
    [['--cmdline-file=/tmp/cmds.txt'], { cmdlineFile: '/tmp/cmds.txt' }],
    [['--eth-peers-configfile=peers'], { ethPeersConfigfile: 'peers' }],
    [['--eth-peer=31,aa:BB:cc:dd:ee:ff'], { ethPeers: [{ port: 31, mac: Uint8Array.of(0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff) }] }],
    [['--eth-peer=0,0200:0000:0001'], { ethPeers: [{ port: 0, mac: Uint8Array.of(2, 0, 0, 0, 0, 1) }] }],
    [
      ['--eth-peer=0,02:00:00:00:00:01', '--eth-peer=0,02:00:00:00:00:02'],
      { ethPeers: [{ port: 0, mac: Uint8Array.of(2, 0, 0, 0, 0, 2) }] },
    ],
    [['--port-topology=chained'], { portTopology: 'chained' }],
    [['--port-topology', 'loop'], { portTopology: 'loop' }],
    [['--forward-mode=5tswap'], { forwardMode: '5tswap' }],
    [['--forward=rxonly'], { forwardMode: 'rxonly' }],
    [['--forward-mode=./engine.ts'], { forwardMode: './engine.ts' }],
    [['--forward-mode=engine.mjs'], { forwardMode: 'engine.mjs' }],
    [['--txpkts=64,32'], { txpkts: [64, 32] }],
    [['--txpkts=1514'], { txpkts: [1514] }],
    [['--txrate=1000000'], { txrate: 1_000_000 }],
    [['--flowgen-flows=2147483647'], { flowgenFlows: 2147483647 }],
    [['--tx-offloads=0x0000002c'], { txOffloads: 0x2c }],
    [['--tx-offloads=8000'], { txOffloads: 0x8000 }],
    [['--tx-offloads', '0X2C'], { txOffloads: 0x2c }],
    [['--rx-offloads=0x1'], { rxOffloads: 1 }],
    [['-i'], { txOffloads: 0x1_0000, rxOffloads: 0, maxLroPktSize: 0, dropEnable: false }],
    [['--enable-lro'], { rxOffloads: 0x10 }],
    [['--enable-rx-cksum'], { rxOffloads: 0xe }],
    [['--enable-rx-timestamp'], { rxOffloads: 0x4000 }],
    [['--enable-scatter'], { rxOffloads: 0x2000 }],
    [['--disable-crc-strip'], { rxOffloads: 0x1_0000 }],
    [['--enable-hw-vlan'], { rxOffloads: 0x621 }],
    [['--enable-hw-vlan-filter'], { rxOffloads: 0x200 }],
    [['--enable-hw-vlan-strip'], { rxOffloads: 0x1 }],
    [['--enable-hw-vlan-extend'], { rxOffloads: 0x400 }],
    [['--enable-hw-qinq-strip'], { rxOffloads: 0x20 }],
    [['--enable-hw-vlan-strip', '--enable-lro', '--enable-scatter'], { rxOffloads: 0x2011 }],
    // a mask says everything anew, what follows it adds to it
    [['--enable-lro', '--rx-offloads=8'], { rxOffloads: 8 }],
    [['--rx-offloads=8', '--enable-lro'], { rxOffloads: 0x18 }],
    [['--enable-drop-en'], { dropEnable: true, rxOffloads: 0 }],
    [['--max-lro-pkt-size=65535'], { maxLroPktSize: 65_535, rxOffloads: 0 }],
  ])('%j', (argv, expected) => {
    expect(parse(...argv)).toMatchObject({ options: expected, notices: [] });
  });

  it('reads events', () => {
    expect([...options('--mask-event=all', '--print-event=intr_lsc').printEvents]).toEqual(['intr_lsc']);
    expect(options('--print-event', 'all').printEvents.size).toBe(11);
    expect(options('--mask-event', 'queue_state').printEvents.has('queue_state')).toBe(false);
  });

  it.each([
    [['--burst=0'], ['PMD does not recommend a burst size. Provided value must be between 1 and 512']],
    [['--burst='], ['PMD does not recommend a burst size. Provided value must be between 1 and 512']],
    [['--burst=x'], ['PMD does not recommend a burst size. Provided value must be between 1 and 512']],
    [['--burst=1000'], ['burst must be between1 and 512']],
    [['--burst=-1'], ['burst must be between1 and 512']],
    [['--burst=5x'], ['burst must be between1 and 512']],
    [['--rxq=0', '--txq=0'], ['Either rx or tx queues should be non-zero']],
    [['--rxq=2000'], ['rxq 2000 invalid - must be >= 0 && <= 1024']],
    [['--rxq=-1'], ['rxq -1 invalid - must be >= 0 && <= 1024']],
    [['--txq=1025'], ['txq 1025 invalid - must be >= 0 && <= 1024']],
    [['--rxd=-1'], ['rxd(-1) invalid - must be > 0']],
    [['--rxd=0'], ['rxd(0) invalid - must be > 0']],
    [['--rxd=0x10'], ['rxd(0) invalid - must be > 0']],
    [['--rxd=70000'], ['rxd(70000) invalid - must be > 0']],
    [['--txd=0'], ['txd must be in > 0']],
    [['--nb-cores=5'], ['nb-cores should be > 0 and <= 2']],
    [['--nb-cores=0'], ['nb-cores should be > 0 and <= 2']],
    [['--nb-cores=x'], ['nb-cores should be > 0 and <= 2']],
    [['--nb-ports=0'], ['Invalid port 0']],
    [['--nb-ports=33'], ['Invalid port 33']],
    [['--coremask=x'], ['Invalid fwd core mask']],
    [['--coremask='], ['Invalid fwd core mask']],
    [['--portmask=x'], ['Invalid fwd port mask']],
    [['--portmask='], ['Invalid fwd port mask']],
    [['--portmask=100000000'], ['Invalid fwd port mask']],
    [['--portlist=x'], ['Invalid fwd port list']],
    [['--portlist='], ['Invalid fwd port list']],
    [['--portlist=0-'], ['Invalid fwd port list']],
    [['--portlist=2-1'], ['Invalid fwd port list']],
    [['--portlist=32'], ['Invalid fwd port list']],
    [['--mbuf-size=0'], ['mbuf-size should be > 0 and < 65536']],
    [['--mbuf-size='], ['mbuf-size should be > 0 and < 65536']],
    [['--mbuf-size=70000'], ['mbuf-size should be > 0 and < 65536']],
    [['--mbuf-size=2048,2048'], ['bad mbuf-size']],
    [['--total-num-mbufs=10'], ['total-num-mbufs should be > 1024']],
    [['--total-num-mbufs=1024'], ['total-num-mbufs should be > 1024']],
    [['--total-num-mbufs=x'], ['total-num-mbufs should be > 1024']],
    [['--mbcache=-1'], ['mbcache must be >= 0 and <= 512']],
    [['--mbcache=513'], ['mbcache must be >= 0 and <= 512']],
    [['--mbcache=x'], ['mbcache must be >= 0 and <= 512']],
    [['--max-pkt-len=10'], ['Invalid max-pkt-len=10 - should be > 64']],
    [['--max-pkt-len=70000'], ['Invalid max-pkt-len=70000 - should be > 64']],
    [['--stats-period=foo'], ['Invalid stats-period value']],
    [['--stats-period=-1'], ['Invalid stats-period value']],
    [['--stats-period='], ['Invalid stats-period value']],
    [['--cmdline-file='], ['Invalid cmdline-file']],
    [['--eth-peers-configfile='], ['Cannot open logfile']],
    [['--eth-peer=0,zz'], ['Invalid ethernet address: zz']],
    [['--eth-peer=0,2:0:0:0:0:1'], ['Invalid ethernet address: 2:0:0:0:0:1']],
    [['--eth-peer=0,02:00:00:00:00:01:02'], ['Invalid ethernet address: 02:00:00:00:00:01:02']],
    [['--eth-peer=0'], ['Invalid eth-peer: 0']],
    [['--eth-peer=x,02:00:00:00:00:01'], ['Invalid eth-peer: x,02:00:00:00:00:01']],
    [['--eth-peer=32,02:00:00:00:00:01'], ['eth-peer: port 32 >= RTE_MAX_ETHPORTS(32)']],
    [['--port-topology=foo'], ['port-topology foo invalid - must be: paired, chained or loop']],
    [['--forward-mode=noisy'], ['Invalid noisy packet forwarding mode']],
    [['--flowgen-flows=0'], ['flows must be >= 1']],
    [['--flowgen-flows=99999999999'], ['flows must be >= 1']],
    [['--tx-offloads=x'], ['tx-offloads must be >= 0']],
    [['--tx-offloads=-1'], ['tx-offloads must be >= 0']],
    [['--tx-offloads='], ['tx-offloads must be >= 0']],
    [['--rx-offloads=0xffffffff'], ['rx-offloads must be >= 0']],
    [['--max-lro-pkt-size=x'], ['Invalid max-lro-pkt-size=0']],
    [['--max-lro-pkt-size=-1'], ['Invalid max-lro-pkt-size=-1']],
    [['-i', '--tx-first'], ['--tx-first cannot be used on interactive mode.']],
  ])("%j fails in DPDK's words", (argv, [cause]) => {
    const error = thrown(argv);
    expect(error.usage).toBeUndefined();
    const lines = error.report(programName);
    expect(lines.slice(0, 2)).toEqual([exiting, `  Cause: ${cause ?? ''}`]);
    expect(lines).toHaveLength(3);
    expect(lines[2]).toMatch(/^dpdk-ts-testpmd: ./);
  });

  it('prints what DPDK prints before it exits', () => {
    expect(failure('--coremask=7').slice(0, 3)).toEqual([
      'lcore 0 cannot be masked on for running packet forwarding, which is the main lcore and reserved for command line parsing only',
      exiting,
      '  Cause: coremask is not valid',
    ]);
    expect(failure('--coremask=8')[0]).toBe('lcore 3 not enabled');
    expect(failure('--coremask=0')[0]).toBe('Invalid NULL mask of cores');
    expect(failure('--txpkts=abc').slice(0, 3)).toEqual(['character a is not a decimal digit', exiting, '  Cause: bad txpkts']);
    expect(failure('--txpkts=64,,64')[0]).toBe('No valid value before comma');
    expect(failure('--txpkts=64,')[0]).toBe('No valid value after comma');
    expect(failure(`--txpkts=${'1,'.repeat(255)}1`).slice(1, 3)).toEqual([exiting, '  Cause: bad txpkts']);
    expect(failure('--mbuf-size=2048,x').slice(0, 3)).toEqual(['character x is not a decimal digit', exiting, '  Cause: bad mbuf-size']);
    expect(failure('--mbuf-size=10').slice(0, 4)).toEqual([
      'mb_pool_0 mbuf_data_room_size 10 < 128 (128 + 0)',
      'Fail to configure port 0 rx queues',
      exiting,
      '  Cause: Start ports failed',
    ]);
    expect(failure('--print-event=foo').slice(0, 3)).toEqual(['Invalid event: foo', exiting, '  Cause: invalid print-event argument']);
    expect(failure('--mask-event=').slice(0, 3)).toEqual(['Invalid event: ', exiting, '  Cause: invalid mask-event argument']);
  });

  it('gives option, value and range', () => {
    expect(failure('--burst=1000').at(-1)).toBe('dpdk-ts-testpmd: --burst=1000: expected a number from 1 to 512');
  });

  it.each([
    ['--forward-mode=foo', 'Invalid foo packet forwarding mode'],
    ['--forward-mode=', 'Invalid  packet forwarding mode'],
    ['--txpkts=10', 'total packet length=10 < 42 - give up'],
    ['--txpkts=10,10', 'total packet length=20 < 42 - give up'],
    ['--txpkts=', 'total packet length=0 < 42 - give up'],
    ['--txpkts=3000', 'length[0]=3000 > mbuf_data_size=2176 - give up'],
    ['--portmask=0', 'Invalid NULL mask of ports'],
  ])('%s is complained of and has no effect, as in DPDK', (argument, first) => {
    const parsed = parse(argument);
    expect(parsed.notices[0]).toBe(first);
    expect(parsed.notices).toHaveLength(2);
    expect(parsed.options).toEqual(options());
  });

  it('measures segments by the mbufs, whichever option comes first', () => {
    expect(options('--txpkts=9000', '--mbuf-size=9216').txpkts).toEqual([9000]);
    expect(options('--txpkts=2048').txpkts).toEqual([2048]);
    expect(options('--txpkts=2049').txpkts).toEqual([64]);
    expect(parse(`--txpkts=${Array(40).fill('2000').join(',')}`).notices[0]).toBe('total packet length=80000 > 65535 - give up');
  });

  it('keeps an earlier mode when a later one is unknown', () => {
    expect(options('--forward-mode=mac', '--forward-mode=mak').forwardMode).toBe('mac');
    expect(parse('--forward-mode=macswp').notices[1]).toContain('did you mean macswap?');
  });

  it('says that --stats-period has no effect at a prompt', () => {
    expect(parse('-i', '--stats-period=1').notices).toHaveLength(1);
  });
});

describe('getopt', () => {
  it.each([
    [['--foo'], ["dpdk-ts-testpmd: unrecognized option '--foo'", 'Invalid option: --foo']],
    [['--for'], ["dpdk-ts-testpmd: option '--forward-mode' requires an argument", 'Invalid option: --for']],
    [['--interactive=1'], ["dpdk-ts-testpmd: option '--interactive' doesn't allow an argument", 'Invalid option: --interactive=1']],
    [['-x'], ["dpdk-ts-testpmd: invalid option -- 'x'", 'Invalid option: -x']],
    [['-ix'], ["dpdk-ts-testpmd: invalid option -- 'x'", 'Invalid option: -ix']],
    [['--nb=2'], ["dpdk-ts-testpmd: option '--nb=2' is ambiguous; possibilities: '--nb-cores' '--nb-ports'", 'Invalid option: --nb=2']],
    [
      ['extra', '--foo'],
      ["dpdk-ts-testpmd: unrecognized option '--foo'", 'Invalid option: --foo'],
    ],
  ])('%j', (argv, first) => {
    const error = thrown(argv);
    expect(error.usage).toBe('testpmd');
    expect(error.lines).toEqual([...first, exiting, '  Cause: Command line is incomplete or incorrect']);
  });

  it('refuses operands', () => {
    for (const argv of [['extra'], ['-i', 'extra', '--burst=64'], ['--', 'extra'], ['extra', 'more']]) {
      const error = thrown(argv);
      expect(error.usage).toBe('testpmd');
      expect(error.lines).toEqual(['Invalid parameter: extra', exiting, '  Cause: Command line is incorrect']);
    }
  });

  it('shows its usage', () => {
    for (const argv of [['--help'], ['-h'], ['-ih', 'extra'], ['--he']]) {
      expect(parseTestpmd(argv, context)).toMatchObject({ kind: 'help' });
    }
    expect(failure('--foo', '--help')[1]).toBe('Invalid option: --foo');
  });

  it('suggests the option that was meant', () => {
    expect(failure('--bursst=4').at(-1)).toBe('dpdk-ts-testpmd: did you mean --burst?');
  });
});

describe('other spellings', () => {
  it.each([
    ['--i', { interactive: true }],
    ['--disable-hw-vlan', {}],
    ['--disable-hw-vlan-filter', {}],
    ['--txqflags=0xf01', {}],
    ['--forward-mode=mac_retry', { forwardMode: 'mac', retry: true }],
    ['--forward-mode=mac_fwd', { forwardMode: 'mac', retry: false }],
  ])('%s is taken, with one line', (argument, expected) => {
    const parsed = parse(argument);
    expect(parsed.options).toEqual({ ...options(), ...expected });
    expect(parsed.notices).toHaveLength(1);
    expect(parsed.notices[0]).toMatch(new RegExp(`^${argument.replace(/=0xf01/, '')}: today's spelling is `));
  });

  it.each(REFUSED_TESTPMD_OPTIONS.map((option) => [option.long ?? '', option.argument] as const))(
    '--%s is known and refused',
    (name, argument) => {
      const lines = failure(argument === 'none' ? `--${name}` : `--${name}=1`);
      expect(lines[0]).toMatch(new RegExp(`^--${name}: not supported yet`));
      expect(lines.slice(1, 3)).toEqual([exiting, '  Cause: Command line is incomplete or incorrect']);
    },
  );
});

describe('checkAgainstPorts', () => {
  const ports = [
    { maxRxQueues: 8, maxTxQueues: 8 },
    { maxRxQueues: 1, maxTxQueues: 2 },
  ];

  it('passes what the ports have', () => {
    expect(checkAgainstPorts(options('--rxq=1', '--txq=2', '--nb-ports=2'), ports, programName)).toBeUndefined();
    expect(checkAgainstPorts(options(), [], programName)).toBeUndefined();
  });

  it('answers as testpmd', () => {
    expect(checkAgainstPorts(options('--nb-ports=3'), ports, programName)).toEqual([
      exiting,
      '  Cause: Invalid port 3',
      'dpdk-ts-testpmd: --nb-ports=3: there are 2 ports',
    ]);
    expect(checkAgainstPorts(options('--rxq=4'), ports, programName)?.slice(0, 3)).toEqual([
      "Fail: input rxq (4) can't be greater than max_rx_queues (1) of port 1",
      exiting,
      '  Cause: rxq 4 invalid - must be >= 0 && <= 1',
    ]);
    expect(checkAgainstPorts(options('--txq=4'), ports, programName)?.[2]).toBe('  Cause: txq 4 invalid - must be >= 0 && <= 2');
  });
});

describe('the file of --eth-peers-configfile', () => {
  it('has one address a line', () => {
    expect(parseEthPeersFile('p', '02:00:00:00:00:01\r\n02:00:00:00:00:02\n', programName)).toEqual({
      kind: 'peers',
      peers: [
        { port: 0, mac: Uint8Array.of(2, 0, 0, 0, 0, 1) },
        { port: 1, mac: Uint8Array.of(2, 0, 0, 0, 0, 2) },
      ],
    });
    expect(parseEthPeersFile('p', '', programName)).toEqual({ kind: 'peers', peers: [] });
    expect(parseEthPeersFile('p', '02:00:00:00:00:01\n'.repeat(40), programName)).toMatchObject({ kind: 'peers', peers: { length: 32 } });
  });

  it('is refused with the line that is wrong', () => {
    expect(parseEthPeersFile('p', '02:00:00:00:00:01\nzz\n', programName)).toEqual({
      kind: 'failure',
      lines: [
        'Bad MAC address format on line 2',
        exiting,
        '  Cause: Cannot open logfile',
        'dpdk-ts-testpmd: p, line 2: "zz" is not an Ethernet address XX:XX:XX:XX:XX:XX',
      ],
    });
    expect(ethPeersFileUnreadable('p', 'No such file or directory', programName)).toContain('Failed to open eth config file');
  });
});
