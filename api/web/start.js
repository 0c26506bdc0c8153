// Shows the contract of this server, and asks nobody else for anything.
Scalar.createApiReference("#docs", {
  url: "openapi.yaml",
  withDefaultFonts: false,
  telemetry: false,
  proxyUrl: "",
  showDeveloperTools: "never",
  hideClientButton: true,
  agent: { disabled: true },
  mcp: { disabled: true },
  documentDownloadType: "direct",
  persistAuth: false,
});
