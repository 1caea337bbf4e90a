/**
 * l3fwd-power's command line and its files of rules; and what it says when it cannot run.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseL3fwd, type ParsedL3fwd } from '../../src/cli/l3fwd-power/arguments.ts';
import { parseConfig } from '../../src/cli/l3fwd-power/options.ts';
import { DEFAULT_FLOWS, DEFAULT_PREFIXES, flowText, prefixText, readRules } from '../../src/cli/l3fwd-power/rules.ts';
import { formatPrefix } from '../../src/net/ip-address.ts';
import { L3fwdPower } from '../support/l3fwd-power.ts';

const cpus = [0, 1, 2, 3];

function parse(line: string): ParsedL3fwd {
  const argv = line.split(' ').filter((word) => word !== '');
  return parseL3fwd(argv, { programName: 'dpdk-ts-l3fwd-power', availableCpus: cpus });
}

function run(line: string): Extract<ParsedL3fwd, { kind: 'run' }> {
  const parsed = parse(line);
  if (parsed.kind !== 'run') throw new Error(JSON.stringify(parsed));
  return parsed;
}

function refusal(line: string): string {
  const parsed = parse(line);
  if (parsed.kind !== 'failure') throw new Error(JSON.stringify(parsed));
  return parsed.lines.join('\n');
}

describe('arguments', () => {
  test('as in the guide of the virtio driver', () => {
    const { eal, options, assignments, said } = run('-l 0-1 -- -p 1 -P --config=(0,0,1) --no-numa --parse-ptype');
    expect(eal.lcores.map(({ id }) => id)).toEqual([0, 1]);
    expect(options).toMatchObject({ ports: [0], promiscuous: true, numa: false, parsePtype: true, lookup: 'lpm', emptyPolls: 300 });
    expect(assignments).toEqual([{ port: 0, queue: 0, lcore: 1 }]);
    expect(said).toEqual(['Promiscuous mode selected', 'numa is disabled ', 'soft parse-ptype is enabled']);
  });

  test('without --config every port has an lcore, the main one when there is no other', () => {
    expect(run('-l 0-2 -- -p 0x7').assignments).toEqual([
      { port: 0, queue: 0, lcore: 1 },
      { port: 1, queue: 0, lcore: 2 },
      { port: 2, queue: 0, lcore: 1 },
    ]);
    expect(run('-l 3 -- -p 1').assignments).toEqual([{ port: 0, queue: 0, lcore: 3 }]);
  });

  test('our own: tables, rules, routes, addresses', () => {
    const { options } = run(
      '-l 0-1 -- -p 3 -E --rule_ipv4=a --rule_ipv6 b --route=10.0.0.0/8,1 --eth-dest=1,02:00:00:00:00:09 --empty-polls=7',
    );
    expect(options).toMatchObject({
      lookup: 'em',
      ruleFiles: { 4: 'a', 6: 'b' },
      routes: [{ prefix: '10.0.0.0/8', port: 1 }],
      emptyPolls: 7,
    });
    expect(options.destinations.get(1)).toEqual(Uint8Array.of(2, 0, 0, 0, 0, 9));
    expect(run('-l 0-1 -- -p 1 -E -L').options.lookup).toBe('lpm');
    expect(run('-l 0-1 -- -p 1 --lookup=em').options.lookup).toBe('em');
  });

  test.each([
    ['-l 0-1 -- -p 0', /invalid portmask\nEAL: Error - exiting with code: 1\n {2}Cause: Invalid L3FWD parameters\n.*-p 0: expected/],
    ['-l 0-1 -- -p x', /invalid portmask/],
    ['-l 0-1 --', /-p PORTMASK is needed/],
    ['-l 0-1 -- -p 1 --config=0,0,1', /invalid config\n/],
    ['-l 0-1 -- -p 1 --config=(0,0)', /invalid config\n/],
    ['-l 0-1 -- -p 1 --config=(0,0,256)', /invalid config\n/],
    ['-l 0-1 -- -p 1 --config=(0,0,2)', /error: lcore 2 is not enabled in lcore mask\n[^]*check_lcore_params failed/],
    ['-l 0-1 -- -p 1 --config=(1,0,1)', /port 1 is not enabled in port mask\n[^]*check_port_config failed/],
    ['-l 0-1 -- -p 1 --config=(0,1,1)', /queue ids of the port 0 must be in sequence and must start with 0/],
    ['-l 0-1 -- -p 1 --config=(0,0,1),(0,0,1)', /in sequence/],
    ['-l 0-1 -- -p 1 --interrupt-only --interrupt-only', /mutually exclusive with other modes/],
    ['-l 0-1 -- -p 1 --legacy', /--legacy is not supported\n[^]*frequencies/],
    ['-l 0-1 -- -p 1 --empty-poll=0,0,0', /--empty-poll is not supported/],
    ['-l 0-1 -- -p 1 --telemetry', /--telemetry is not supported/],
    ['-l 0-1 -- -p 1 --pmd-mgmt=pause', /--pmd-mgmt is not supported/],
    ['-l 0-1 -- -p 1 --high-perf-cores=1', /--high-perf-cores is not supported/],
    ['-l 0-1 -- -p 1 -h 2', /-h is not supported/],
    ['-l 0-1 -- -p 1 --max-pkt-len=x', /64 to 9600/],
    ['-l 0-1 -- -p 1 --lookup=hash', /lpm or em/],
    ['-l 0-1 -- -p 1 --route=10.0.0.0,', /expected a prefix and a port/],
    ['-l 0-1 -- -p 1 --eth-dest=1', /expected a port and an address/],
    ['-l 0-1 -- -p 1 --empty-polls=0', /1 and up/],
    ['-l 0-1 -- -p 1 --confg=x', /unrecognized option '--confg=x'[^]*did you mean --config/],
    ['-l 0-1 -- -p 1 more', /"more" belongs to no option/],
    ['-l 9 -- -p 1', /lcore 9 unavailable/],
  ])('%s', (line, message) => {
    expect(refusal(line)).toMatch(message);
  });

  test('help', () => {
    const eal = parse('--help');
    expect(eal).toMatchObject({ kind: 'help', exitStatus: 0 });
    if (eal.kind === 'help') expect(eal.text).toContain('Usage: dpdk-ts-l3fwd-power [EAL options] -- [l3fwd-power options]');
    const own = parse('-l 0-1 -- --help');
    expect(own).toMatchObject({ kind: 'help' });
    if (own.kind === 'help') expect(own.text).toContain('--config="(port,queue,lcore)');
  });

  test('property: --config, and any other text', () => {
    const number = fc.integer({ min: 0, max: 255 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(number, number, number), { minLength: 1, maxLength: 6 }),
        fc.constantFrom(',', ', ', ''),
        (groups, between) => {
          const text = groups.map((group) => `(${group.join(',')})`).join(between);
          expect(parseConfig(text)).toEqual(groups.map(([port, queue, lcore]) => ({ port, queue, lcore })));
        },
      ),
    );
    fc.assert(fc.property(fc.string(), (text) => void parseConfig(text)));
    fc.assert(
      fc.property(fc.array(fc.string(), { maxLength: 6 }), (words) => void parse(['-l', '0-1', '--', '-p', '1', ...words].join(' '))),
    );
  });
});

describe('rules', () => {
  test('those that are built in, in the words of DPDK', () => {
    expect(DEFAULT_PREFIXES[4].map(prefixText)[1]).toBe('LPM: Adding route 0x02010100 / 24 (1)');
    expect(DEFAULT_PREFIXES[6].map(prefixText)[7]).toBe('LPM: Adding route 2001:200:0:7::/64 (7)');
    const [flow] = DEFAULT_FLOWS[4];
    expect(flow === undefined ? '' : flowText(flow)).toBe(
      'Hash: Adding key\nIP dst = 640a0001, IP src = c80a0001, port dst = 101, port src = 11, proto = 6',
    );
  });

  function read(text: string, version: 4 | 6 = 4): ReturnType<typeof readRules> {
    const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
    try {
      writeFileSync(join(directory, 'rules'), text);
      return readRules(join(directory, 'rules'), version);
    } finally {
      rmSync(directory, { recursive: true });
    }
  }

  test('a file of l3fwd', () => {
    const { prefixes, flows } = read('# a comment\n\nR198.18.0.0/24 0\n  R198.18.1.0/24 1\nE198.18.0.1 198.18.0.2 9 10 0x11 1\n');
    expect(prefixes.map(({ prefix, port }) => `${formatPrefix(prefix)} ${String(port)}`)).toEqual(['198.18.0.0/24 0', '198.18.1.0/24 1']);
    expect(flows).toEqual([
      {
        flow: {
          destination: Uint8Array.of(198, 18, 0, 1),
          source: Uint8Array.of(198, 18, 0, 2),
          destinationPort: 9,
          sourcePort: 10,
          protocol: 17,
        },
        port: 1,
      },
    ]);
    expect(read('R2001:200::/64 3', 6).prefixes).toMatchObject([{ port: 3 }]);
  });

  test.each([
    ['R198.18.0.0/24', /rules:1: R198\.18\.0\.0\/24: expected R, a prefix/],
    ['\nR198.18.0.0/33 1', /rules:2: /],
    ['R2001:200::/64 1', /prefix of IPv4/],
    ['R198.18.0.0/24 300', /expected R/],
    ['E198.18.0.1 198.18.0.2 9 10 17', /expected E/],
    ['E198.18.0.1 198.18.0.2 9 70000 17 1', /expected E/],
    ['E198.18.0.1 2001::1 9 10 17 1', /expected E/],
    ['X', /begins with R/],
  ])('%s', (text, message) => {
    expect(() => read(text)).toThrow(message);
  });

  test('no file', () => {
    expect(() => readRules('/nonexistent/rules', 4)).toThrow(/--rule_ipv4=\/nonexistent\/rules: no such file/);
  });
});

describe('what cannot run', () => {
  test.each([
    [['-l', '0', '--no-huge', '--', '-p', '1'], /port 0 is not present on the board: there is no port/],
    [['-l', '0', '--no-huge', '--vdev=net_null0', '--', '-p', '3'], /port 1 is not present on the board/],
    [['-l', '0', '--no-huge', '--vdev=net_ring0', '--', '-p', '1', '--max-pkt-len=63'], /Invalid max packet length: 63 \(port 0\)/],
    [['-l', '0', '--no-huge', '--vdev=net_null0', '--', '-p', '1', '--rule_ipv4=/nonexistent'], /no such file/],
    [['-l', '0', '--no-huge', '--vdev=net_vhost0', '--', '-p', '1'], /iface/],
  ])('%j', async (argv, message) => {
    await using program = new L3fwdPower(argv);
    expect(await program.waitForExit()).toBe(1);
    expect(program.output).toMatch(message);
    expect(program.output).toMatch(/EAL: Error - exiting with code: 1/);
  });

  test('a port that cannot tell of packets is polled, and it is said', async () => {
    await using program = new L3fwdPower(['-l', '0', '--no-huge', '--vdev=net_ring0', '--', '-p', '1']);
    await program.printed(/RX interrupt won't enable/);
    expect(await program.stop()).toBe(0);
    expect(program.output).toMatch(/lcore 0: sleeps: 0 wake-ups: 0/);
  });

  test('Ctrl-C while the lcore sleeps, and while the link is waited for', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-'));
    await using program = new L3fwdPower(['-l', '0', '--no-huge', `--vdev=net_vhost0,iface=${join(directory, 's')}`, '--', '-p', '1']);
    await program.printed(/Checking link status/);
    expect(await program.stop(3000)).toBe(0);
    await using sleeping = new L3fwdPower(['-l', '0', '--no-huge', `--vdev=net_tap0`, '--', '-p', '1']);
    await sleeping.printed(/sleeps until interrupt triggers|exiting with code/);
    await sleeping.stop(3000);
    rmSync(directory, { recursive: true });
  });
});
