# Windows, as administrator: installs the service that DIR has, locks the network down, and tries to get out; kills the service and tries
# again; opens the network and gets out. lockdown.ps1 DIR. Takes the network away from this machine for less than a minute.
param([Parameter(Mandatory)][string]$Programs)
$ErrorActionPreference = 'Stop'
$directory = Join-Path $env:ProgramFiles 'Hamn'
$hamn = Join-Path $directory 'hamn.exe'
$helper = Join-Path $directory 'hamn-helper.exe'

function Invoke-Checked([string]$Program, [string[]]$Words) {
    & $Program @Words
    if ($LASTEXITCODE -ne 0) { throw "$Program $Words ended with $LASTEXITCODE" }
}

# Two addresses and a name, over TCP and UDP, without a proxy.
function Test-GetsOut {
    foreach ($url in 'https://1.1.1.1/', 'https://github.com/') {
        curl.exe --noproxy '*' --silent --max-time 2 --output NUL $url
        if ($LASTEXITCODE -eq 0) { return $true }
    }
    $answer = Resolve-DnsName -Name example.org -Type A -Server 8.8.8.8 -DnsOnly -QuickTimeout -ErrorAction SilentlyContinue
    return [bool]$answer
}

function Wait-Helper {
    foreach ($try in 1..100) {
        & $hamn status --json *> $null
        if ($LASTEXITCODE -eq 0) { return }
        Start-Sleep -Milliseconds 200
    }
    throw 'the helper does not answer'
}

if (-not (Test-GetsOut)) { throw 'the negative control: this machine has no network to begin with' }
New-Item -ItemType Directory -Force $directory | Out-Null
Copy-Item (Join-Path $Programs 'hamn.exe'), (Join-Path $Programs 'hamn-helper.exe') $directory
try {
    Invoke-Checked $helper @('install-service')
    Start-Service HamnHelper
    Wait-Helper
    Invoke-Checked $hamn @('settings', 'set', 'kill-switch', 'always')
    Invoke-Checked $hamn @('verify')
    if (Test-GetsOut) { throw 'LEAK: lockdown lets something out' }
    # The filters are the system's: they hold while nobody watches them, and the service that comes back finds them.
    Stop-Process -Force -Id (Get-CimInstance Win32_Service -Filter "Name='HamnHelper'").ProcessId
    if (Test-GetsOut) { throw 'LEAK: something got out after the service was killed' }
    Wait-Helper
    Invoke-Checked $hamn @('verify')
    Invoke-Checked $hamn @('settings', 'set', 'kill-switch', 'off')
    if (-not (Test-GetsOut)) { throw 'the network is not open again' }
    Write-Output 'lockdown held, also over the death of the service, and the network is open again'
}
finally {
    Stop-Service HamnHelper -Force -ErrorAction SilentlyContinue
    & $helper uninstall-service
    & $helper --restore-network
}
