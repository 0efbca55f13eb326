// Browser tests of the built page: layout, contrast, reflow, languages, screenshots. The bridge is a shim with fixtures.
import { defineConfig } from '@playwright/test';

const port = 4319;

export default defineConfig({
  testDir: 'tests/browser',
  testMatch: '*.spec.ts',
  outputDir: 'test-results/runs',
  fullyParallel: true,
  workers: 2,
  timeout: 120_000,
  reporter: [['list']],
  forbidOnly: Boolean(process.env.CI),
  use: {
    baseURL: `http://127.0.0.1:${port}`,
    viewport: { width: 1040, height: 720 },
    launchOptions: { executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--font-render-hinting=none'] }
  },
  webServer: {
    // A build of its own, so that a window that is being packaged keeps its `dist`.
    command: `npx vite build --outDir .browser-site --emptyOutDir --logLevel warn && npx vite preview --outDir .browser-site --host 127.0.0.1 --port ${port} --strictPort`,
    url: `http://127.0.0.1:${port}`,
    timeout: 120_000,
    reuseExistingServer: false
  }
});
