/* A small program in place of Hamn's own, for tests of the installers: notes how it was called, and is a service when asked to be one. */
#include <windows.h>
#include <stdio.h>

static SERVICE_STATUS_HANDLE handle;
static HANDLE end;

static void report(DWORD state) {
    SERVICE_STATUS status = {SERVICE_WIN32_OWN_PROCESS, state, SERVICE_ACCEPT_STOP, NO_ERROR, 0, 0, 0};
    SetServiceStatus(handle, &status);
}

static DWORD WINAPI control(DWORD code, DWORD kind, void *data, void *context) {
    if (code == SERVICE_CONTROL_STOP) {
        report(SERVICE_STOP_PENDING);
        SetEvent(end);
    }
    return NO_ERROR;
}

static void WINAPI serve(DWORD count, char **words) {
    end = CreateEventA(NULL, TRUE, FALSE, NULL);
    handle = RegisterServiceCtrlHandlerExA("HamnHelper", control, NULL);
    report(SERVICE_RUNNING);
    WaitForSingleObject(end, INFINITE);
    report(SERVICE_STOPPED);
}

int main(int count, char **words) {
    FILE *notes = fopen("C:\\hamn-calls.txt", "a");
    if (notes) {
        const char *name = strrchr(words[0], '\\');
        fprintf(notes, "%s " VERSION, name ? name + 1 : words[0]);
        for (int i = 1; i < count; i++) fprintf(notes, " %s", words[i]);
        fprintf(notes, "\n");
        fclose(notes);
    }
    if (count > 1 && !strcmp(words[1], "--service")) {
        SERVICE_TABLE_ENTRYA table[] = {{"HamnHelper", serve}, {NULL, NULL}};
        return StartServiceCtrlDispatcherA(table) ? 0 : 1;
    }
    if (count > 2 && !strcmp(words[1], "--run")) {
        /* Runs a command line and says how it ended: a shell's exit code has 8 bits. */
        STARTUPINFOA start = {sizeof start};
        PROCESS_INFORMATION process;
        DWORD code = 0;
        char *line = strstr(GetCommandLineA(), "--run ") + 6;
        if (!CreateProcessA(NULL, line, NULL, NULL, FALSE, 0, NULL, NULL, &start, &process)) {
            printf("error %lu\n", GetLastError());
            return 1;
        }
        WaitForSingleObject(process.hProcess, INFINITE);
        GetExitCodeProcess(process.hProcess, &code);
        printf("code %lu\n", code);
        return 0;
    }
    /* A failing custom action must not stop an installation. */
    return GetFileAttributesA("C:\\hamn-fail") == INVALID_FILE_ATTRIBUTES ? 0 : 7;
}
