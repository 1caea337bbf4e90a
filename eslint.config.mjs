/**
 * Lint rules: typescript-eslint at its strictest, and the few bans of the project's own.
 * @module
 */
import tseslint from 'typescript-eslint';

const noDefaultExport = {
  selector: 'ExportDefaultDeclaration',
  message: 'Export by name: a default export has as many names as it has importers.',
};
const noDefaultSpecifier = {
  selector: 'ExportSpecifier[exported.name="default"]',
  message: noDefaultExport.message,
};

// One source, two compilers: kernels stay in the subset of TypeScript that AssemblyScript accepts, where integers are u32 and i32,
// there is no Number, and loops count.
const kernels = ['src/**/*.kernel.ts', 'src/memory/access.ts'];

export default tseslint.config(
  { ignores: ['dist/**', 'coverage/**', '.cache/**', 'src/**/*.wasm.ts'] },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true, ignoreVoidOperator: true }],
      // `for (;;)` and `while (true)` are what a poll loop is.
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: true }],
    },
  },
  {
    files: kernels,
    rules: {
      '@typescript-eslint/no-inferrable-types': 'off',
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/no-unnecessary-type-assertion': 'off',
      '@typescript-eslint/no-unnecessary-type-conversion': 'off',
      '@typescript-eslint/prefer-for-of': 'off',
      '@typescript-eslint/prefer-nullish-coalescing': 'off',
      '@typescript-eslint/prefer-optional-chain': 'off',
      '@typescript-eslint/restrict-plus-operands': 'off',
      'prefer-const': 'off',
    },
  },
  {
    // Typed arrays indexed inside their bounds: the check that the assertion skips is what a load must not cost.
    files: ['src/memory/access.ts'],
    rules: { '@typescript-eslint/no-non-null-assertion': 'off' },
  },
  {
    files: ['**/*.{js,mjs,ts}'],
    rules: {
      eqeqeq: ['error', 'always'],
      'no-restricted-syntax': ['error', noDefaultExport, noDefaultSpecifier],
      'no-restricted-imports': [
        'error',
        { paths: [{ name: 'ffi-rs', message: 'Only src/system/ calls libc: import what you need from there.' }] },
      ],
      'no-var': 'error',
      'object-shorthand': 'error',
    },
  },
  {
    files: kernels,
    // AssemblyScript has no `===` of its own: there, both mean the same.
    rules: { eqeqeq: 'off' },
  },
  // ambient declarations say what others wrote
  { files: ['types/**/*.d.ts'], rules: { '@typescript-eslint/no-extraneous-class': 'off' } },
  { files: ['src/system/**/*.ts'], rules: { 'no-restricted-imports': 'off' } },
  { files: ['*.config.ts', '*.config.mjs'], rules: { 'no-restricted-syntax': 'off' } },
);
