// Kernels are compiled twice (see src/memory/access.ts). In JavaScript the integer types of AssemblyScript are plain numbers.
declare type u32 = number;
declare type i32 = number;
