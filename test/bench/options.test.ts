import { describe, expect, it } from 'vitest';
import { benchCommand, parseOptions } from '../../bench/options.ts';
import { programAt, testpmdArguments } from '../../bench/programs.ts';

function parse(...args: string[]): ReturnType<typeof parseOptions> {
  return parseOptions(
    args,
    benchCommand()
      .exitOverride()
      .configureOutput({ writeErr: () => undefined }),
  );
}

describe('options', () => {
  it('measure everything by default', () => {
    const options = parse();
    expect(options.case.map(({ name }) => name)).toEqual(['64', '1518', 'javascript']);
    expect(options.pairing).toHaveLength(4);
    expect(options).toMatchObject({ rounds: 3, seconds: 5, state: 'any', startUp: true });
  });

  it('choose from the tables', () => {
    const options = parse('--case', '1518,64', '--pairing', 'ours-ours', '--cpus', '2,3', '--no-start-up');
    expect(options.case.map(({ name }) => name)).toEqual(['64', '1518']);
    expect(options.pairing.map(({ name }) => name)).toEqual(['ours-ours']);
    expect(options.cpus).toEqual([2, 3]);
    expect(options.startUp).toBe(false);
  });

  it.each([
    [['--case', '65'], /Unknown: '65'\. Known: 64, 1518, javascript\./],
    [['--pairing', 'dpdk'], /Known: ours-ours, dpdk-dpdk, ours-dpdk, dpdk-ours/],
    [['--direction', 'up'], /Known: virtio-to-vhost, vhost-to-virtio, io-loop, flowgen-to-vhost/],
    [['--state', 'middle'], /any, near, far/],
    [['--rounds', '1.5'], /Not a whole number/],
    [['--seconds', '0'], /Not a number above 0/],
    [['--cpus', '0,0'], /Two different CPU numbers/],
  ])('refuse %j with what is known', (args, message) => {
    expect(() => parse(...args)).toThrow(message);
  });
});

describe('command lines', () => {
  it('are those of testpmd, for either program', () => {
    const args = testpmdArguments({
      cpu: 1,
      memory: { kind: 'huge' },
      filePrefix: 'x',
      vdev: 'virtio_user0,path=/tmp/s',
      eal: ['--force-max-simd-bitwidth=64'],
      testpmd: ['--auto-start'],
    });
    expect(args.join(' ')).toBe(
      '--lcores 0@1,1@1 --no-pci --in-memory --single-file-segments --file-prefix x --vdev virtio_user0,path=/tmp/s ' +
        '--force-max-simd-bitwidth=64 -- -i --total-num-mbufs=4096 --auto-start',
    );
    expect(testpmdArguments({ cpu: 0, memory: { kind: 'no-huge', megabytes: 512 }, filePrefix: 'x', vdev: 'y' })).toContain('--no-huge');
  });

  it('start JavaScript with Node.js and anything else as it is', () => {
    expect(programAt('ours', 'dist/cli/testpmd-main.js')).toMatchObject({
      command: process.execPath,
      prefix: ['dist/cli/testpmd-main.js'],
    });
    expect(programAt('dpdk', '/usr/bin/dpdk-testpmd').prefix.at(-1)).toBe('/usr/bin/dpdk-testpmd');
  });
});
