// Builds the page that hamn-gui embeds; the same configuration serves the unit tests.
import { paraglideVitePlugin } from '@inlang/paraglide-js';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [
    svelte(),
    // Tests take what `npm run compile` has written: several of them at once must not write the same files.
    process.env.VITEST
      ? []
      : paraglideVitePlugin({
          project: './project.inlang',
          outdir: './src/paraglide',
          // The window has no server and no cookies: the language is a preference that the bridge keeps.
          strategy: ['globalVariable', 'baseLocale'],
          outputStructure: 'locale-modules',
          emitTsDeclarations: true
        })
  ],
  // Svelte mounts only under its browser condition, which tests in jsdom must ask for.
  resolve: process.env.VITEST ? { conditions: ['browser'] } : {},
  server: { host: '127.0.0.1', port: 5173, strictPort: true },
  build: { target: 'es2022', sourcemap: false, chunkSizeWarningLimit: 900 },
  test: { environment: 'jsdom', include: ['tests/unit/**/*.test.ts'], setupFiles: ['tests/unit/setup.ts'] }
});
