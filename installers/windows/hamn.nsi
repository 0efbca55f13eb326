; The setup program of Hamn: carries the MSI and hands it, with the options of the command line, to the Windows Installer.
; VERSION, MSI and OUT come from `cargo xtask package windows`; options.nsh has one line for each public property of the MSI.
Target amd64-unicode
SetCompressor /SOLID lzma
Name "Hamn"
OutFile "${OUT}"
RequestExecutionLevel admin
ManifestDPIAware true
ShowInstDetails nevershow
BrandingText " "
VIProductVersion "${VERSION}.0"
VIAddVersionKey ProductName "Hamn"
VIAddVersionKey ProductVersion "${VERSION}"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey FileDescription "Hamn setup"
VIAddVersionKey CompanyName "Hamn developers"
VIAddVersionKey LegalCopyright "MPL-2.0"

!include MUI2.nsh
!include FileFunc.nsh
!include LogicLib.nsh
!define MUI_ICON "hamn.ico"
!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_LICENSE "LICENSE.txt"
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_LANGUAGE English

Var Parameters
Var Properties
Var Action
Var Code

; /NAME=value becomes NAME="value". A quotation mark inside would end the value for the Windows Installer, so such a value is refused.
!macro Option NAME
  StrCpy $R0 "/${NAME}="
  Call FindOption
  ${IfNot} ${Errors}
    StrCpy $1 0
    ${Do}
      StrCpy $2 $0 1 $1
      ${If} $2 == '"'
        SetErrorLevel 87
        Quit
      ${EndIf}
      IntOp $1 $1 + 1
    ${LoopUntil} $2 == ""
    StrCpy $Properties '$Properties ${NAME}="$0"'
  ${EndIf}
!macroend

; Looks for a word of $Parameters that begins with $R0 and puts the rest of it into $0; sets the error flag when there is none. A word ends
; with a space, or with a quotation mark when the word or its value begins with one. (GetOptions would end an address at its slashes.)
Function FindOption
  StrLen $R1 $R0
  StrCpy $R2 1
  ${Do}
    StrCpy $R3 $Parameters $R1 $R2
    ${If} $R3 == ""
      SetErrors
      Return
    ${EndIf}
    ${If} $R3 == $R0
      IntOp $R4 $R2 - 1
      StrCpy $R4 $Parameters 1 $R4
      ${If} $R4 == " "
      ${OrIf} $R4 == '"'
        ${ExitDo}
      ${EndIf}
    ${EndIf}
    IntOp $R2 $R2 + 1
  ${Loop}
  IntOp $R2 $R2 + $R1
  ${If} $R4 == " "
    StrCpy $R3 $Parameters 1 $R2
    ${If} $R3 == '"'
      StrCpy $R4 '"'
      IntOp $R2 $R2 + 1
    ${EndIf}
  ${EndIf}
  StrCpy $0 ""
  ${Do}
    StrCpy $R3 $Parameters 1 $R2
    ${If} $R3 == ""
    ${OrIf} $R3 == $R4
      ${ExitDo}
    ${EndIf}
    StrCpy $0 "$0$R3"
    IntOp $R2 $R2 + 1
  ${Loop}
  ClearErrors
FunctionEnd

Function .onInit
  ; The registry of 64-bit programs, where the MSI writes.
  SetRegView 64
FunctionEnd

Section
  SetShellVarContext all
  ${GetParameters} $Parameters
  StrCpy $Parameters " $Parameters"
  StrCpy $Properties ""
  !include options.nsh
  ReadRegStr $3 HKLM "SOFTWARE\Hamn\Setup" "ProductCode"
  ReadRegStr $4 HKLM "SOFTWARE\Hamn\Setup" "Version"
  ; Below Program Files, not in a temporary directory: only administrators can exchange the file before it is read.
  StrCpy $5 "$PROGRAMFILES64\Hamn Setup"
  StrCpy $R0 "/REMOVE"
  Call FindOption
  ${IfNot} ${Errors}
    ${If} $3 == ""
      StrCpy $Code 1605
      Goto done
    ${EndIf}
    StrCpy $Action '/x "$3"'
  ${Else}
    SetOutPath "$5"
    File "/oname=hamn.msi" "${MSI}"
    SetOutPath "$WINDIR"
    StrCpy $Action '/i "$5\hamn.msi"'
    ${If} $4 == "${VERSION}"
      StrCpy $Action '/i "$5\hamn.msi" REINSTALL=ALL REINSTALLMODE=amus'
    ${EndIf}
  ${EndIf}
  StrCpy $R0 "/LOG="
  Call FindOption
  ${IfNot} ${Errors}
    StrCpy $Properties '$Properties /l*v "$0"'
  ${EndIf}
  ClearErrors
  ExecWait '"$SYSDIR\msiexec.exe" $Action /qn /norestart$Properties' $Code
  ${If} ${Errors}
    StrCpy $Code 1601
  ${EndIf}
  Delete "$5\hamn.msi"
  RMDir "$5"
done:
  SetErrorLevel $Code
  ${If} $Code != 0
  ${AndIf} $Code != 3010
    ${IfNot} ${Silent}
      MessageBox MB_ICONSTOP|MB_OK "The Windows Installer ended with $Code; the file that /LOG=FILE writes says why." /SD IDOK
    ${EndIf}
    ; Abort would set the code to 2.
    SetErrorLevel $Code
    Quit
  ${EndIf}
SectionEnd
