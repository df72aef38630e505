"""Super-resolution: SRResNet, MSRResNet, RRDBNet, SRVGGNetCompact."""
