// Classic look, one file; history joins the runs of one reports folder.
export default {
  name: "AuthorizationPolicy on TCP",
  output: process.env.ALLURE_OUTPUT,
  historyPath: process.env.ALLURE_HISTORY,
  plugins: {
    allure2: { options: { reportName: "AuthorizationPolicy on TCP", singleFile: true, reportLanguage: "en" } },
  },
};
