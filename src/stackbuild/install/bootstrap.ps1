# Installs layers from @ADDRESS@ with a stackbuild that it downloads from there:
#
#     & ([scriptblock]::Create((irm @ADDRESS@/install.ps1))) LAYER --root DIR
#
# Arguments are those of `stackbuild install`. It is one function, so that a part of this file does nothing.
function Install-Layers {
    $ErrorActionPreference = 'Stop'
    $address = '@ADDRESS@'
    $name = '@NAME@'
    $sha256 = '@SHA256@'
    $place = $env:STACKBUILD_BUNDLES
    if (-not $place) { $place = Join-Path $env:LOCALAPPDATA 'stackbuild-bundles' }
    $directory = Join-Path $place ([IO.Path]::GetFileNameWithoutExtension($name))
    $ready = Join-Path $directory '.ready'
    if (-not (Test-Path -LiteralPath $ready)) {
        New-Item -ItemType Directory -Force -Path $place | Out-Null
        $zip = Join-Path $place "$PID-$name"
        try {
            Invoke-WebRequest -UseBasicParsing -Uri "$address/bootstrap/$name" -OutFile $zip
            $found = (Get-FileHash -Algorithm SHA256 -LiteralPath $zip).Hash.ToLower()
            if ($found -ne $sha256) {
                throw "$address/bootstrap/$name is not the expected file: sha256 $found, expected $sha256"
            }
            if (Test-Path -LiteralPath $directory) { Remove-Item -Recurse -Force -LiteralPath $directory }
            Expand-Archive -LiteralPath $zip -DestinationPath $directory
        } finally {
            Remove-Item -Force -ErrorAction SilentlyContinue -LiteralPath $zip
        }
        & "$directory\@RUNTIME@\python.exe" "$directory\stackbuild\postinstall.py"
        if ($LASTEXITCODE) { throw "stackbuild cannot be prepared in $directory" }
        New-Item -ItemType File -Force -Path $ready | Out-Null
    }
    & "$directory\stackbuild\Scripts\python.exe" -P -m stackbuild install --from $address @args
}

Install-Layers @args
